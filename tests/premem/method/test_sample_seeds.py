"""Seeds: one per sample, and the same one whenever the same sample is asked for."""

from hypothesis import given
from hypothesis import strategies as st

from premem.method.sample_seeds import sample_seed


def test_a_sample_has_the_same_seed_on_every_machine():
    assert sample_seed(7, checkpoint="checkpoint-10", example="12", sample=3) == 7691125590872154969


def test_whatever_differs_gives_another_seed():
    asked = {
        sample_seed(seed, checkpoint=checkpoint, example=example, sample=sample, split=split)
        for seed in (0, 1)
        for checkpoint in ("a", "b")
        for example in ("1", "11")
        for sample in range(5)
        for split in ("train", "test")
    }

    assert len(asked) == 2 * 2 * 2 * 5 * 2


@given(st.integers(0, 2**63 - 1), st.text(), st.text(), st.integers(0, 1000))
def test_a_seed_fits_a_signed_64_bit_integer(seed, checkpoint, example, sample):
    assert 0 <= sample_seed(seed, checkpoint=checkpoint, example=example, sample=sample) < 2**63
