import pytest
import torch
from torch.nn import functional

from regionclip.open_vocabulary import OpenVocabularyHead


def test_logits_are_cosines_over_the_temperature_and_zero_for_background() -> None:
    torch.manual_seed(0)
    features, classes = torch.randn(5, 8), torch.randn(3, 8)
    logits = OpenVocabularyHead(8, temperature=0.05).logits(features, classes)
    cosines = functional.cosine_similarity(features[:, None], classes[None], dim=-1)
    torch.testing.assert_close(logits, torch.cat((cosines / 0.05, torch.zeros(5, 1)), dim=1))


def test_logits_ignore_the_norms_but_box_deltas_do_not() -> None:
    torch.manual_seed(0)
    head = OpenVocabularyHead(8)
    features, classes = torch.randn(5, 8), torch.randn(3, 8)
    torch.testing.assert_close(head.logits(7 * features, 3 * classes), head.logits(features, classes))
    torch.testing.assert_close(head.box_deltas(7 * features), 7 * head.box_deltas(features))


def test_a_fresh_head_hardly_moves_boxes() -> None:
    torch.manual_seed(0)
    head = OpenVocabularyHead(1024)
    assert head.box_regressor is not None
    assert head.box_regressor.weight.std().item() == pytest.approx(0.001, rel=0.05)
    assert head.box_regressor.bias.abs().max() == 0


def test_a_table_of_any_size_fits_and_one_of_another_width_does_not() -> None:
    head = OpenVocabularyHead(8)
    assert head.logits(torch.ones(2, 8), torch.ones(11, 8)).shape == (2, 12)
    with pytest.raises(ValueError, match=r"\(3, 6\).*8 wide"):
        head.logits(torch.ones(2, 8), torch.ones(3, 6))


def test_a_head_without_regression_has_no_parameters_and_says_so() -> None:
    head = OpenVocabularyHead(8, num_box_outputs=None)
    assert not list(head.parameters())
    with pytest.raises(ValueError, match="num_box_outputs=4"):
        head.box_deltas(torch.ones(2, 8))


@pytest.mark.parametrize(("temperature", "outputs"), [(0.0, 4), (-1.0, 4), (0.01, 8)])
def test_senseless_arguments_are_refused(temperature: float, outputs: int) -> None:
    with pytest.raises(ValueError, match=r"temperature|num_box_outputs"):
        OpenVocabularyHead(8, temperature, outputs)
