"""Full tuning: everything moves, or everything but the embeddings."""

from pico import make_model

from workbench.methods.adapters.full import Full


def test_every_weight_moves() -> None:
    model = make_model()
    attachment = Full().attach(model, seed=0)
    assert {name for name, _ in attachment.trained()} == {name for name, _ in model.named_parameters()}


def test_embeddings_and_a_tied_head_can_stay() -> None:
    model = make_model()
    attachment = Full(embeddings=False).attach(model, seed=0)
    assert "model.embed_tokens.weight" not in {name for name, _ in attachment.trained()}
    assert Full(embeddings=False).cost(model).trained == Full().cost(model).trained - 400 * 32
    untied = make_model(tie_word_embeddings=False)
    assert Full(embeddings=False).cost(untied).trained == Full().cost(untied).trained - 2 * 400 * 32
