"""Plain decoding: the model's own next-token distribution."""

from workbench.methods.contracts import Decoder, Speaker, Voice


class Plain(Decoder, title="Plain"):
    """Draw the next token from the model's own distribution.

    $$p(y_t \\mid y_{<t}) = \\mathrm{softmax}(z_t / T)$$

    T is the temperature; at T = 0 the likeliest token is taken.
    """

    def begin(self, own: Speaker, base: Speaker) -> Voice:
        return own
