"""What the outputs of a network become in C."""

from __future__ import annotations

from .c_text import C_TYPES, literal, suffix, text_of
from .operations import Outputs, Program


def returned(program: Program, value: str, dtype: str) -> tuple[str, int, list[str]]:
    """Return the statement that stores a value, the number of results, and what follows the loop.

    Parameters
    ----------
    program
        The program.
    value, dtype
        The expression of output j, and its format.
    """
    outputs = program.outputs
    width, n = outputs.width, outputs.targets
    if outputs.kind in ("classes", "multilabel") and width == 1 and outputs.probabilities:
        return f"out[1] = {value};", 2, [f"out[0] = {literal(1.0, dtype)} - out[1];"]
    if outputs.kind == "quantiles" and n > 1:
        return f"out[j % {n} * {width // n} + j / {n}] = {value};", width, []
    after = _deviations(outputs, dtype) if outputs.kind == "distribution" else []
    return f"out[j] = {value};", width, after


def _deviations(outputs: Outputs, dtype: str) -> list[str]:
    """Return the statements that make standard deviations of the second half of out."""
    f, n = suffix(dtype), outputs.targets
    zero, least = literal(0.0, dtype), literal(outputs.least_variance, dtype)
    lines = []
    for k in range(n):
        s = f"out[{n + k}]"
        softplus = f"fmax{f}({s}, {zero}) + log1p{f}(exp{f}(-fabs{f}({s})))"
        scale = ""
        if outputs.deviation_scale is not None:
            scale = f" * {literal(float(outputs.deviation_scale[k]), dtype)}"
        lines.append(f"{s} = sqrt{f}({softplus} + {least}){scale};")
    return lines


def labels(program: Program, name: str) -> list[str]:
    """Return the functions that tell the class of outputs, and the name of a class."""
    outputs, kind = program.outputs, C_TYPES[program.dtype]
    if outputs.classes is None:
        return []
    single = outputs.width == 1
    threshold = literal(outputs.threshold, program.dtype)
    yes = f"return out[{int(outputs.probabilities)}] > {threshold};"
    most = [
        "int j, best = 0;",
        "",
        f"for (j = 1; j < {outputs.width}; j++)",
        "    if (out[j] > out[best])",
        "        best = j;",
        "return best;",
    ]
    names = [text_of(str(label)) for label in outputs.classes.tolist()]
    return [
        "",
        "/* The index of the predicted class, for the results of the function above. */",
        f"static inline int {name}_class(const {kind} *out)",
        "{",
        *(f"    {line}".rstrip() for line in ([yes] if single else most)),
        "}",
        "",
        "/* The name of a class. */",
        f"static inline const char *{name}_class_name(int index)",
        "{",
        f"    static const char *const names[{len(names)}] = {{",
        *(f"        {text}," for text in names),
        "    };",
        "",
        "    return names[index];",
        "}",
    ]
