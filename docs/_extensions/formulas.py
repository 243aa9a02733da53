"""Sphinx extension: formulas become MathML, which browsers draw without a script.

docutils converts them. MathJax, Sphinx's default, would be loaded from another server.
"""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator


def mathml(formula: str, as_block: bool = False) -> str:
    r"""Return a formula of LaTeX as MathML.

    docutils needs the braces of ``\tfrac{1}{2}``, and puts no space after ``\ln`` and its like.
    """
    formula = re.sub(r"\\tfrac(\d)(\d)", r"\\tfrac{\1}{\2}", formula)
    formula = re.sub(r"\\(ln|log|cosh|exp)\s*(?=[\w\\](?!left))", r"\\\1\\,", formula)
    return str(tex2mathml(formula, as_block=as_block))


def visit_inline(translator: HTML5Translator, node: nodes.math) -> None:
    translator.body.append(mathml(node.astext()))
    raise nodes.SkipNode


def visit_block(translator: HTML5Translator, node: nodes.math_block) -> None:
    translator.body.append(f'<div class="math">{mathml(node.astext(), as_block=True)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the renderer "mathml"."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
