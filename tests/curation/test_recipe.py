"""A mistake in a recipe is answered with its file, line, key path, and what to write."""

from pathlib import Path

import pytest

from curation.errors import InputError, NotFoundError
from curation.recipe import Recipe, load_recipe
from curation.storage import S3Settings

GOOD = "name: my-set\nsource: raw\noutput: out\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "recipe.yaml"


def mistakes(file: Path, text: str) -> list[str]:
    """Load a recipe that can't be loaded; give the lines of the message."""
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load_recipe(file)
    return [line.removeprefix(f"{file}:") for line in str(caught.value).splitlines()]


def test_three_settings_are_enough(file: Path) -> None:
    file.write_text(GOOD)
    recipe = load_recipe(file)
    assert recipe == Recipe(
        name="my-set", source=str(file.parent / "raw"), output=str(file.parent / "out")
    )
    assert recipe.encoder.model == "tf_efficientnet_lite0"


def test_every_section_can_be_set(file: Path) -> None:
    file.write_text(
        GOOD
        + """
s3: {endpoint_url: "http://127.0.0.1:9000", region: eu-west-1}
encoder: {model: resnet50, weights: hub, precision: fp32}
images: {extensions: [jpg], max_pixels: 1000, rotate_by_exif: true}
classifiers:
  sharp: {type: sharpness}
duplicates: {exact: false, prefer: [aesthetic desc]}
filter: width >= 200
imports:
  images:
    listed: {list: lists/pictures.csv, folder: "s3://bucket/photos"}
  urls: {laion-1: {list: laion.parquet, samples_per_shard: 10000, timeout_seconds: 10}}
machine: {device: auto, batch_size: 8, workers: 2, shards_per_run: 10}
"""
    )
    recipe = load_recipe(file)
    assert recipe.s3 == S3Settings(endpoint_url="http://127.0.0.1:9000", region="eu-west-1")
    assert recipe.images.extensions == ("jpg",)
    assert recipe.classifiers == {"sharp": {"type": "sharpness"}}
    assert recipe.machine.batch_size == 8
    listed = recipe.imports.images["listed"]
    assert listed.list == str(file.parent / "lists" / "pictures.csv")
    assert listed.folder == "s3://bucket/photos"
    laion = recipe.imports.urls["laion-1"]
    assert laion.list == str(file.parent / "laion.parquet")
    assert (laion.timeout_seconds, laion.concurrency) == (10, 64)


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("raw/shards", "{folder}/raw/shards"),
        ("/data/raw", "/data/raw"),
        ("~/raw", "{home}/raw"),
        ("s3://bucket/prefix", "s3://bucket/prefix"),
    ],
)
def test_relative_paths_start_at_the_recipes_folder(
    file: Path, location: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.chdir("/")
    file.write_text(GOOD.replace("raw", location))
    expected = expected.format(folder=file.parent, home="/home/someone")
    assert load_recipe(file).source == expected


def test_a_recipe_never_changes(file: Path) -> None:
    file.write_text(GOOD)
    recipe = load_recipe(file)
    with pytest.raises(ValueError, match="frozen"):
        recipe.name = "other"


def test_a_missing_recipe_says_where_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"none\.yaml: .* copy recipe\.yaml"):
        load_recipe(tmp_path / "none.yaml")
    with pytest.raises(NotFoundError):
        load_recipe(tmp_path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            GOOD + "filtr: x\n",
            "4: filtr: There is no setting 'filtr'; did you mean filter or filtered? Those "
            "that exist: card, checks, classifiers, complete_when, duplicates, encoder, "
            "filter, filtered, images, imports, machine, name, nightly_cron, on_damage, "
            "output, release, s3, source, text_encoder, texts, timezone.",
        ),
        (
            GOOD + "encoder:\n  model: x\n  wieghts: hub\n",
            "6: encoder.wieghts: There is no setting 'wieghts'; did you mean weights? "
            "Those that exist: model, precision, weights.",
        ),
        (
            GOOD + "s3:\n  regio: x\n",
            "5: s3.regio: There is no setting 'regio'; did you mean region? Those that "
            "exist: anonymous, endpoint_url, profile, region.",
        ),
        (
            "name: a\noutput: out\n",
            "1: source: this setting is required and has no default",
        ),
        (
            GOOD + "machine:\n\n  shards_per_run: 0\n",
            "6: machine.shards_per_run: this should be greater than 0; found 0",
        ),
        (
            GOOD + "machine:\n  device: tpu\n",
            "5: machine.device: this should be 'cuda', 'cpu' or 'auto'; found 'tpu'",
        ),
        (
            GOOD + "imports:\n  urls:\n    a/b, c: {list: x.csv}\n",
            "6: imports.urls.a/b, c: an input's name is a folder and a partition key: up "
            "to 64 letters, digits, '-' and '_', the first of them no '-' or '_'",
        ),
        (
            GOOD + "imports:\n  urls:\n    a: {list: x.csv, timeot_seconds: 3}\n",
            "6: imports.urls.a.timeot_seconds: There is no setting 'timeot_seconds'; did "
            "you mean timeout_seconds? Those that exist: allow_private_addresses, "
            "concurrency, list, max_bytes, samples_per_shard, timeout_seconds, user_agent.",
        ),
        (
            GOOD + "imports:\n  urls:\n    a: {}\n",
            "6: imports.urls.a.list: this setting is required and has no default",
        ),
        (
            GOOD + "imports:\n  images:\n    a: {}\n",
            "6: imports.images.a: name a folder of images, or a list of them",
        ),
        (
            GOOD + "imports:\n  images: {a: {folder: x}}\n  urls: {a: {list: x}}\n",
            "4: imports: a names images and URLs; their shards would share a folder",
        ),
        (
            GOOD + "machine:\n  workers: -3\n",
            "5: machine.workers: this should be greater than 0; found -3",
        ),
        (
            GOOD.replace("my-set", "My Set"),
            "1: name: String should match pattern '^[a-z0-9][a-z0-9_-]{0,63}$'; "
            "found 'My Set'",
        ),
        (
            GOOD.replace("raw", '""'),
            "2: source: String should have at least 1 character; found ''",
        ),
        (
            GOOD + "images:\n  extensions: jpg\n",
            "5: images.extensions: expected a list such as [a, b]; found 'jpg'",
        ),
        (
            GOOD + "duplicates:\n  prefer:\n  - pixels desc\n  - 1\n",
            "7: duplicates.prefer.1: expected text; put it in quotes; found 1",
        ),
        (
            GOOD + "duplicates:\n  exact: perhaps\n",
            "5: duplicates.exact: this should be a valid boolean, unable to interpret "
            "input, or this should be 'pixels'; found 'perhaps'",
        ),
        (
            GOOD + "encoder: resnet50\n",
            "4: encoder: expected settings, each on a line of its own below it, indented; "
            "found 'resnet50'",
        ),
        (
            GOOD + "encoder:\n",
            "4: encoder: expected settings, each on a line of its own below it, indented; "
            "found None",
        ),
        (
            GOOD + "classifiers: [aesthetic]\n",
            "4: classifiers: expected names with settings, each on a line of its own below "
            "it; found ['aesthetic']",
        ),
        (
            GOOD + "classifiers:\n  aesthetic: 5\n",
            "5: classifiers.aesthetic: expected names with settings, each on a line of its "
            "own below it; found 5",
        ),
        (GOOD + "filter: 5\n", "4: filter: expected text; put it in quotes; found 5"),
        (
            GOOD + "encoder:\n  model: a\n  model: b\n",
            "6: encoder.model: this setting is on line 5 already; keep one of them",
        ),
        ("name: [a\nsource: b", "2: not YAML: expected ',' or ']', but got ':'"),
        (
            GOOD + "filter: !!python/name:os.system\n",
            "4: not YAML: could not determine a constructor for the tag "
            "'tag:yaml.org,2002:python/name:os.system'",
        ),
        (GOOD + "---\nname: b\n", "4: not YAML: but found another document"),
        ("- name\n", "1: expected settings such as 'source: …', found ['name']"),
        ("", "1: expected settings such as 'source: …', found None"),
    ],
)
def test_a_mistake_has_its_line_its_key_path_and_the_fix(
    file: Path, text: str, expected: str
) -> None:
    assert mistakes(file, text) == [expected]


def test_every_mistake_is_told_at_once_in_the_order_of_the_file(file: Path) -> None:
    text = "nam: a\nsource: raw\noutput: out\nmachine:\n  device: tpu\nfilter: 5\n"
    found = mistakes(file, text)
    assert [line.split(": ")[:2] for line in found] == [
        ["1", "nam"],
        ["1", "name"],
        ["5", "machine.device"],
        ["6", "filter"],
    ]


def test_a_key_that_is_no_text_is_named(file: Path) -> None:
    assert mistakes(file, GOOD + "5: x\n")[0].startswith("4: 5: Keys should be strings")


def test_a_file_that_is_no_text_is_refused(file: Path) -> None:
    file.write_bytes(b"name: \xff\xfe\n")
    with pytest.raises(InputError, match=r"not UTF-8 text.*save it as UTF-8"):
        load_recipe(file)


def test_every_setting_is_documented() -> None:
    def undocumented(model: type, path: str = "") -> list[str]:
        missing = []
        for name, field in model.model_fields.items():  # type: ignore[attr-defined]
            if hasattr(field.annotation, "model_fields"):
                missing += undocumented(field.annotation, f"{path}{name}.")
            elif not field.description:
                missing.append(path + name)
        return missing

    assert undocumented(Recipe) == []


ALIASES = "a0: &a0 [x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9)
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (ALIASES, "6: a recipe has at most 100,000 values, aliases written out"),
        (GOOD + "filter: " + "[" * 5000, "4: a recipe has at most 100,000 values"),
        (GOOD + "filter: " + "{a: " * 3000, "4: a recipe has at most 100,000 values"),
        ("name: &a [*a]\n", "1: *a is within itself"),
        ("name: &a {b: 1, <<: *a}\n", "1: *a is within itself"),
        (GOOD + f"filter: {'9' * 5000}", "4: not YAML: '99999"),
        (GOOD + f"filter: 0x{'f' * 5000}", "4: not YAML: '0xfff"),
        (GOOD + "filter: 2001-99-99", "4: not YAML: '2001-99-99' can't be read as timest"),
        (GOOD + "filter: !!bool maybe", "4: not YAML: 'maybe' can't be read as bool"),
    ],
)
def test_a_recipe_that_would_exhaust_its_reader_is_refused(
    file: Path, text: str, reason: str
) -> None:
    (mistake,) = mistakes(file, text)
    assert mistake.startswith(reason)


def test_what_has_an_anchor_may_be_used_again(file: Path) -> None:
    file.write_text("name: &name my-set\nsource: *name\noutput: out\n")
    assert load_recipe(file).source == str(file.parent / "my-set")
