"""Properties of every selection, for any repository."""

from __future__ import annotations

from fnmatch import fnmatchcase

from hypothesis import given
from hypothesis import strategies as st

from gpux.errors import EntryNotFoundError, NoWeightsError
from gpux.inspect.formats import FORMATS, SelectedFiles, Selection, select, units, weight_formats
from gpux.model.info import ModelFile
from gpux.model.precisions import PRECISIONS
from tests.inspect.formats import listings

NAMES = sorted({
    path
    for listing in (
        *(value for value in vars(listings).values() if isinstance(value, str) and ".json" in value),
        " ".join(listings.GPT2),
        "model-00001-of-00003.safetensors model-00003-of-00003.safetensors saved_model.pb variables/variables.index"
        " m-Q4_K_M-00001-of-00002.gguf m-Q4_K_M-00002-of-00002.gguf m-Q8_0.gguf mmproj-F16.gguf optimizer.pt x.py"
        " 2_Dense/config.json 2_Dense/model-00001-of-00002.safetensors 2_Dense/model-00002-of-00002.safetensors"
        " 2_Dense/model.safetensors.index.json 2_Dense/pytorch_model.bin model.ckpt.index model.ckpt.meta",
    )
    for path in listing.split()
    if "/" in path or "." in path
})  # fmt: skip
GLOBS = ("*.json", "*", "onnx/*", "*.safetensors", "*00001*", "original/", "*.mlpackage/*", "*.bin", "*_data", "x")

repositories = st.lists(st.sampled_from(NAMES), unique=True, max_size=40)
globs = st.lists(st.sampled_from(GLOBS), max_size=2).map(tuple)
selections = st.one_of(
    st.builds(
        Selection,
        format=st.sampled_from([None, *FORMATS]),
        precision=st.sampled_from([None, *PRECISIONS]),
        include=globs,
        exclude=globs,
        machine=st.sampled_from([None, "arm64", "avx512", "gpu"]),
    ),
    st.builds(Selection, everything=st.just(True), exclude=globs),
    st.builds(Selection, file=st.sampled_from(NAMES)),
)


def listing(names: list[str]) -> list[ModelFile]:
    return [ModelFile(name, len(name)) for name in names]


def torn(found: SelectedFiles, names: list[str]) -> list[str]:
    """Units that are split: some of their files are selected, others are not."""
    chosen = set(found.paths)
    return [unit.name for unit in units(names) if 0 < len(chosen.intersection(unit.paths)) < len(unit.paths)]


@given(repositories, selections)
def test_a_selection_splits_the_listing_but_no_unit(names: list[str], selection: Selection) -> None:
    try:
        found = select(listing(names), selection)
    except (NoWeightsError, EntryNotFoundError):
        return
    left = [file.path for file in found.left_out]
    assert sorted([*found.paths, *left]) == sorted(names)
    assert torn(found, names) == []
    assert all(file.reason for file in (*found.chosen, *found.left_out))


@given(repositories)
def test_the_default_is_one_complete_format(names: list[str]) -> None:
    try:
        found = select(listing(names))
    except NoWeightsError:
        return
    weights = [path for path in found.paths if not path.startswith("2_Dense/")]
    assert weight_formats(weights) == (found.format,)
    assert found.format in ("onnx", "safetensors", "pytorch")
    assert all(unit.missing == 0 for unit in units(names) if set(unit.paths) <= set(weights))
    assert not [path for path in found.paths if path.endswith(".py")]


@given(repositories, st.sampled_from(GLOBS))
def test_include_and_exclude_are_complements(names: list[str], glob: str) -> None:
    kept = select(listing(names), Selection(everything=True, exclude=(glob,))).paths
    try:
        brought = select(listing(names), Selection(include=(glob,))).paths
    except EntryNotFoundError:
        brought = ()
    assert sorted([*kept, *brought]) == sorted(names)
    pattern = f"{glob}*" if glob.endswith("/") else glob
    assert {name for name in names if fnmatchcase(name, pattern)} <= set(brought)


@given(repositories, st.randoms(use_true_random=False), selections)
def test_the_order_of_the_listing_does_not_matter(names: list[str], random: object, selection: Selection) -> None:
    shuffled = list(names)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    answers = []
    for order in (names, shuffled):
        try:
            answers.append(select(listing(order), selection))
        except (NoWeightsError, EntryNotFoundError) as exc:
            answers.append(exc.to_dict())  # type: ignore[arg-type]
    assert answers[0] == answers[1]
