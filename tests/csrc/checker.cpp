// The operands between guard pages, and the messages of failures.

#include "checker.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, bytes) ((void)(at), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(at, bytes) ((void)(at), (void)(bytes))
#endif

bool short_run = false;
long long calls = 0, values = 0;
char where[400];
Side guard_side = ENDS;
Operand* operand;

void fail(const char* format, ...) {
  std::fflush(stdout);
  std::fprintf(stderr, "%s: ", where);
  va_list arguments;
  va_start(arguments, format);
  std::vfprintf(stderr, format, arguments);
  va_end(arguments);
  std::fputc('\n', stderr);
  std::_Exit(1);
}

uint8_t undefined_byte() {
  static const volatile uint8_t* bytes = (const uint8_t*)std::malloc(64);
  return bytes[17];
}

Operand::Operand() {
  page_ = size_t(sysconf(_SC_PAGESIZE));
  map(usual);
}

void Operand::map(size_t size) {
  size_ = (size + page_ - 1) / page_ * page_;
  map_ = (char*)mmap(nullptr, size_ + 2 * page_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (map_ == MAP_FAILED) fail("no memory");
  mprotect(map_ + page_, size_, PROT_READ | PROT_WRITE);
}

char* Operand::place_bytes(const char* name, size_t bytes) {
  if (read_only_) mprotect(map_ + page_, size_, PROT_READ | PROT_WRITE);
  read_only_ = false;
  name_ = name;
  bytes_ = bytes;
  if (bytes_ > size_ || (size_ > usual + page_ && bytes_ <= usual)) {
    ASAN_UNPOISON_MEMORY_REGION(map_ + page_, size_);
    munmap(map_, size_ + 2 * page_);
    map(bytes_ > usual ? bytes_ : usual);
  }
  char* first = map_ + page_;
  at_ = guard_side == ENDS ? first + size_ - bytes_ : first;
  ASAN_UNPOISON_MEMORY_REGION(first, size_);
  ASAN_POISON_MEMORY_REGION(first, size_t(at_ - first));
  ASAN_POISON_MEMORY_REGION(at_ + bytes_, size_t(first + size_ - at_) - bytes_);
  return at_;
}

void Operand::protect() {
  if (!read_only_) mprotect(map_ + page_, size_, PROT_READ);
  read_only_ = true;
}

// What an access to the address did wrong, if it is of this operand.
bool Operand::explain(const char* address, char* text, size_t size) const {
  if (address < map_ || address >= map_ + size_ + 2 * page_ || !at_) return false;
  if (address >= at_ + bytes_)
    std::snprintf(text, size, "touches %s, of %zu bytes, %td bytes past its end", name_, bytes_,
                  address - (at_ + bytes_));
  else if (address < at_)
    std::snprintf(text, size, "touches %s, of %zu bytes, %td bytes before its start", name_, bytes_,
                  at_ - address);
  else
    std::snprintf(text, size, "writes into %s, which it may only read, at byte %td", name_,
                  address - at_);
  return true;
}

namespace {

void on_fault(int number, siginfo_t* info, void*) {
  char text[300] = "touches memory that is none of its operands";
  for (int i = 0; i < operands; ++i)
    if (operand[i].explain((const char*)info->si_addr, text, sizeof text)) break;
  char line[800];
  const int length = std::snprintf(line, sizeof line, "%s: %s (signal %d)\n", where, text, number);
  if (write(2, line, size_t(length)) < 0) std::_Exit(4);
  std::_Exit(3);
}

}  // namespace

void report_faults() {
  struct sigaction action = {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO;
  for (int number : {SIGSEGV, SIGBUS}) sigaction(number, &action, nullptr);
}
