// Long names in the cells of tables may break after punctuation and before capitals.
document.addEventListener("DOMContentLoaded", () => {
  for (const code of document.querySelectorAll(".bd-article td code span.pre")) {
    if (code.textContent.length < 12) continue;
    const parts = code.textContent.split(/(?<=[._/(=:,-])(?=\w)|(?<=[a-z])(?=[A-Z])/);
    code.replaceChildren(...parts.flatMap((part, k) => (k ? [document.createElement("wbr"), part] : [part])));
  }
});
