"""Formulas of docstrings (`$$…$$`, a small part of LaTeX) as MathML, which browsers draw by themselves: no library, no request.

What it knows: letters, numbers, `^ _ { }`, \\frac, \\sqrt, \\hat, \\bar, \\mathrm, \\text, \\left, \\right, Greek and the signs below.
What it does not know stays as its name, so that nothing vanishes. `unknown` names them, for a test over all methods.
"""

import re

from workbench.ui.cards import escaped

GREEK = (
    "alpha α beta β gamma γ delta δ epsilon ε varepsilon ε zeta ζ eta η theta θ kappa κ lambda λ mu μ nu ν xi ξ pi π rho ρ "
    "sigma σ tau τ phi φ varphi φ chi χ psi ψ omega ω Delta Δ Gamma Γ Theta Θ Lambda Λ Sigma Σ Phi Φ Psi Ψ Omega Ω ell ℓ"
)
SIGNS = (
    "sum ∑ prod ∏ in ∈ times × cdot · odot ⊙ oplus ⊕ otimes ⊗ le ≤ leq ≤ ge ≥ geq ≥ ne ≠ neq ≠ approx ≈ sim ∼ to → leftarrow ← "
    "rightarrow → mid | vert | lVert ‖ rVert ‖ Vert ‖ lvert | rvert | langle ⟨ rangle ⟩ infty ∞ partial ∂ nabla ∇ pm ± top ⊤ "
    "dots … ldots … cdots ⋯ lfloor ⌊ rfloor ⌋ lceil ⌈ rceil ⌉ ll ≪ gg ≫ cap ∩ cup ∪ subset ⊂ setminus ∖ forall ∀ mapsto ↦ propto ∝ perp ⊥ "
    "circ ∘"
)
LETTERS = dict(zip(GREEK.split()[::2], GREEK.split()[1::2], strict=True))
OPERATORS = dict(zip(SIGNS.split()[::2], SIGNS.split()[1::2], strict=True))
NAMES = {"log", "ln", "exp", "max", "min", "cos", "sin", "tanh", "arg", "argmax", "argmin", "sup", "inf", "det", "lim"}
LIMITED = {"sum", "prod", "max", "min", "argmax", "argmin", "sup", "inf", "lim"}  # an index stands below these, not beside
SPACES = {",": "0.17em", ";": "0.28em", ":": "0.22em", "!": "-0.17em", "quad": "1em", "qquad": "2em", " ": "0.25em"}
ACCENTS = {"hat": "^", "widehat": "^", "bar": "¯", "tilde": "~", "vec": "→", "dot": "˙", "overline": "¯"}
UPRIGHT = {"mathrm", "text", "operatorname", "textrm"}
STYLES = {"mathbb", "mathcal", "mathbf", "boldsymbol", "mathit"}
SILENT = {"textstyle", "displaystyle", "left", "right", "limits", "big", "Big", "bigl", "bigr", "Bigl", "Bigr"}
DOUBLE = {"R": "ℝ", "N": "ℕ", "Z": "ℤ", "E": "𝔼", "P": "ℙ"}
WORDS = re.compile(r"\\text\{[^{}]*\}")
GAP = "\ue000"  # stands for a space between words until the formula is taken apart
TOKEN = re.compile(r"\\([a-zA-Z]+|.)|([0-9]+(?:\.[0-9]+)?)|(\s+)|(.)", re.DOTALL)


def mathml(latex: str) -> str:
    """One formula as a block of MathML."""
    held = WORDS.sub(lambda words: re.sub(r"\s+", GAP, words.group(0)), latex)  # elsewhere spaces mean nothing
    tokens = [match.group(0) for match in TOKEN.finditer(held) if not match.group(3)]
    return f'<math display="block">{_row(tokens, "")}</math>'


def unknown(latex: str) -> set[str]:
    """The commands that would only be shown as their names."""
    known = {*LETTERS, *OPERATORS, *NAMES, *SPACES, *ACCENTS, *UPRIGHT, *STYLES, *SILENT, "frac", "tfrac", "dfrac", "sqrt", "{", "}", "|"}
    return {match.group(1) for match in TOKEN.finditer(latex) if match.group(1)} - known


def _row(tokens: list[str], until: str) -> str:
    """Everything up to `until`; taken off the front of `tokens`."""
    parts: list[str] = []
    while tokens and tokens[0] != until:
        parts.append(_scripted(tokens))
    if tokens and until:
        tokens.pop(0)
    return f"<mrow>{''.join(parts)}</mrow>"


def _scripted(tokens: list[str]) -> str:
    """An atom with the index below and the exponent above that follow it."""
    atom, below, above = _atom(tokens), "", ""
    while tokens and tokens[0] in ("^", "_", "'"):
        sign = tokens.pop(0)
        if sign == "_":
            below = _atom(tokens)
        else:
            above += "<mo>′</mo>" if sign == "'" else _atom(tokens)
    above = f"<mrow>{above}</mrow>" if above else ""
    low, both = ("munder", "munderover") if "movablelimits" in atom else ("msub", "msubsup")
    if below and above:
        return f"<{both}>{atom}{below}{above}</{both}>"
    return f"<{low}>{atom}{below}</{low}>" if below else f"<msup>{atom}{above}</msup>" if above else atom


def _atom(tokens: list[str]) -> str:
    if not tokens:
        return "<mrow></mrow>"
    token = tokens.pop(0)
    if token == "{":
        return _row(tokens, "}")
    if token.startswith("\\"):
        return _command(token[1:], tokens)
    if token[0].isdigit():
        return f"<mn>{token}</mn>"
    return f"<mi>{escaped(token)}</mi>" if token.isalpha() else f"<mo>{escaped(token.replace('-', '−').replace('*', '∗'))}</mo>"


def _command(name: str, tokens: list[str]) -> str:
    if name in ("frac", "tfrac", "dfrac"):
        return f"<mfrac>{_atom(tokens)}{_atom(tokens)}</mfrac>"
    if name == "sqrt":
        return f"<msqrt>{_atom(tokens)}</msqrt>"
    if name in ACCENTS:
        return f'<mover accent="true">{_atom(tokens)}<mo>{escaped(ACCENTS[name])}</mo></mover>'
    if name in UPRIGHT:
        return f'<mi mathvariant="normal">{escaped(_plain(tokens))}</mi>'
    if name in STYLES:
        inner = _plain(tokens)
        return f"<mi>{escaped(DOUBLE.get(inner, inner) if name == 'mathbb' else inner)}</mi>"
    if name in SPACES:
        return f'<mspace width="{SPACES[name]}"></mspace>'
    if name in SILENT:
        return ""
    if name in LIMITED:
        return f'<mo movablelimits="false" lspace="0" rspace="0.17em">{OPERATORS.get(name, name)}</mo>'
    if name in OPERATORS:
        return f"<mo>{escaped(OPERATORS[name])}</mo>"
    if name in NAMES:
        return f'<mo lspace="0" rspace="0.17em">{name}</mo>'
    return f"<mi>{escaped(LETTERS.get(name, name))}</mi>"


def _plain(tokens: list[str]) -> str:
    """The letters of a group, for upright words."""
    if not tokens or tokens[0] != "{":
        return tokens.pop(0) if tokens else ""
    tokens.pop(0)
    inner = []
    while tokens and tokens[0] != "}":
        inner.append(tokens.pop(0))
    if tokens:
        tokens.pop(0)
    return "".join(inner).replace(GAP, "\u00a0")
