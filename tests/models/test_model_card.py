from models.contract.manifest import Manifest
from models.model_card import model_card


def test_the_card_says_what_is_predicted_measured_promised_and_made_from(tiny_version: Manifest) -> None:
    manifest = tiny_version.model_copy(update={"evaluation": {"rank_correlation": 0.731234}})
    card = model_card(manifest, "Data of the tests.", "A network of the tests.")
    assert card.startswith("# tiny, version 1\n")
    assert "2 points (a, b)" in card
    assert "A true loss above 2 pixels counts as a failure" in card
    assert "| rank correlation | 0.7312 |" in card
    assert "**budget**: made for tests" in card
    assert "Data of the tests." in card
    assert "A network of the tests." in card


def test_the_card_states_how_far_a_budget_scatters(tiny_version: Manifest) -> None:
    # level .1 from 100 images: sqrt(.1 * .9 / 100) = .03
    assert "about 3.0 points in a hundred" in model_card(tiny_version, "", "")
