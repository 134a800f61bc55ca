"""README, docs and `--help` say the same: commands, options, settings, links and recipes exist."""

from __future__ import annotations

import configparser
import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import click
import numpy as np
import pytest
import yaml
from PIL import Image

from cropfirst import configs
from cropfirst.cli import main
from cropfirst.configs import Config, load_config, load_yaml, recipe_names
from cropfirst.stage1_detect.config import DetectConfig
from cropfirst.stage1_detect.harden.config import HardenConfig
from cropfirst.stage2_classify.config import TrainConfig
from cropfirst.stage2_classify.sweep.plan import plan_lines

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
KOREAN = ROOT / "README.ko.md"
DOCS = ROOT / "docs"
PAGES = [README, KOREAN, ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
SECTIONS: dict[str, type[Config]] = {
    "detect": DetectConfig, "train": TrainConfig, "harden": HardenConfig,
}  # fmt: skip
GROUP = click.Context(main)
COMMANDS: dict[str, click.Command] = {
    name: command
    for name in main.list_commands(GROUP)
    if (command := main.get_command(GROUP, name)) is not None
}


def prose(page: Path) -> str:
    """A page without its code blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )


def shell_lines(text: str) -> Iterator[list[str]]:
    """The words of each line of shell, without comments and leading NAME=VALUE settings."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words = words[1:]
        if words:
            yield words


def cropfirst_args(words: list[str]) -> list[str] | None:
    """The arguments of a line that calls cropfirst; None for any other line."""
    if words[0] == "cropfirst":
        return words[1:]
    if len(words) > 1 and re.search(r"python3?$", words[0]) and words[1] == "cli.py":
        return words[2:]
    return None


def check_call(args: list[str]) -> None:
    """Parse a call as click does, without running it, and resolve the settings that it names."""
    name, *rest = args
    command = COMMANDS.get(name)
    if command is None:
        raise click.UsageError(f"no command {name!r}")
    params = command.make_context(name, list(rest)).params
    if name == "sweep" and set(params["recipes"]) <= set(recipe_names()):
        tasked = all("task" in recipe_settings(recipe) for recipe in params["recipes"] or [None])
        plan_lines(
            params["recipes"], params["grid"], overrides=params["overrides"],
            tasks=params["tasks"] or ([] if tasked else ["mask"]), values=params["values"],
        )  # fmt: skip
    if name in SECTIONS:
        recipe = params["recipe"] if params["recipe"] in recipe_names() else None
        values = params["values"]
        if name == "train" and "task" not in recipe_settings(recipe):
            values = {"task": "mask", **values}
        load_config(
            SECTIONS[name], recipe=recipe, section=name,
            overrides=params["overrides"], values=values,
        )  # fmt: skip


def recipe_settings(recipe: str | None) -> dict[str, object]:
    """Return the settings of a shipped recipe for train."""
    if recipe is None:
        return {}
    settings = load_yaml(Path(configs.__file__).parent / f"{recipe}.yaml").get("train") or {}
    return dict(settings)


def calls() -> list[tuple[str, list[str]]]:
    found = []
    for page in PAGES:
        inline = re.findall(r"`(cropfirst (?!COMMAND|-)[^`]+)`", prose(page))
        for text in [*blocks(page, "bash"), *inline]:
            for words in shell_lines(text):
                args = cropfirst_args(words)
                if args is not None:
                    found.append((f"{page.name}: {shlex.join(args)}", args))
    return found


CALLS = calls()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_has_help(name: str) -> None:
    command = COMMANDS[name]
    assert command.help, f"{name} has no help"
    silent = [
        option.opts[0]
        for option in command.params
        if isinstance(option, click.Option) and not option.help
    ]
    assert not silent, f"options of {name} without help: {silent}"


@pytest.mark.parametrize("name", COMMANDS)
def test_readme_names_every_command(name: str) -> None:
    assert re.search(rf"^\| `{name}\b", README.read_text("utf-8"), re.MULTILINE)


def test_the_groups_help_lists_each_command_once_with_the_first_line_of_its_help() -> None:
    listed = re.findall(r"^  ([a-z]+) +(\S.*)$", main.get_help(GROUP), re.MULTILINE)
    first_lines = [(name, (each.help or "").splitlines()[0]) for name, each in COMMANDS.items()]
    assert listed == first_lines


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_no_line_of_help_is_cut(name: str) -> None:
    command = COMMANDS.get(name, main)
    text = command.get_help(click.Context(command, terminal_width=80))
    body = text.partition("\n\n")[2]  # the usage has DATA... and the like
    assert not re.search(r"\.\.\.$", body, re.MULTILINE)
    assert "None" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_commands_page_is_what_its_script_writes() -> None:
    script = runpy.run_path(str(ROOT / "docs" / "make_commands.py"))
    assert set(script["NOTES"]) == set(COMMANDS)
    page = script["OUT"].read_text("utf-8")
    assert page == script["page"](), "docs/commands.md is old: run python docs/make_commands.py"


def test_commands_page_has_every_option() -> None:
    page = (ROOT / "docs" / "commands.md").read_text("utf-8")
    for name, command in COMMANDS.items():
        section = page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        for option in command.params:
            if isinstance(option, click.Option):
                for spelling in (*option.opts, *option.secondary_opts):
                    assert spelling in section, f"{name} {spelling}"


@pytest.mark.parametrize("args", [args for _, args in CALLS], ids=[text for text, _ in CALLS])
def test_every_call_in_the_docs_is_one(args: list[str]) -> None:
    check_call(args)


def test_the_docs_show_every_command() -> None:
    assert {args[0] for _, args in CALLS} == set(COMMANDS)


@pytest.mark.parametrize(
    "line",
    [
        "cropfirst dtect data",
        "cropfirst detect",
        "python cli.py detect data --marigin 3",
        "HF_HOME=x cropfirst train data --folds many",
        "cropfirst predict data --checkpoint best",
        "cropfirst detect data --set crop.margni=3",
        "cropfirst train data --set optim.lr=-1",
    ],
)
def test_a_wrong_call_in_the_docs_would_be_found(line: str) -> None:
    (words,) = shell_lines(line)
    args = cropfirst_args(words)
    assert args is not None
    with pytest.raises((click.UsageError, configs.ConfigError)):
        check_call(args)


def test_messages_and_recipes_call_the_program_as_the_docs_do() -> None:
    """The program is called cropfirst, and cli.py only in a checkout; each command exists."""
    rooms = ("cache", "configs", "core", "door", "stage1_detect", "stage2_classify")
    files = [path for room in rooms for path in (ROOT / room).rglob("*.*")]
    texts = {path: path.read_text("utf-8") for path in files if path.suffix in (".py", ".yaml")}
    assert [path.name for path, text in texts.items() if "cli.py" in text] == []
    joined = "\n".join(re.sub(r'"\n\s*f?"', "", text) for text in texts.values())
    named = re.findall(r"run cropfirst ([a-z]\w*)", joined)
    assert len(named) > 40 and set(named) <= set(COMMANDS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_targets_and_scripts_in_the_docs_exist(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    text = page.read_text("utf-8")
    for target in re.findall(r"(?:^|`)make ([a-z][a-z-]*)", text, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make {target}"
    for script in re.findall(r"python3? ([\w/]+\.py)", text):
        assert (ROOT / script).is_file(), script


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith(("https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name} links to {target}"
        assert file.is_relative_to(ROOT), f"{page.name} links out of the repository: {target}"
        if anchor:
            assert anchor in headings(file), f"{page.name} links to {target}"


def headings(page: Path) -> set[str]:
    """A page's headings as GitHub spells their anchors."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_architecture_names_every_room() -> None:
    table = (ROOT / "docs/architecture.md").read_text("utf-8")
    named = set(re.findall(r"^\| `([\w/]+)/` \|", table, re.M))
    tops = [path.parent for path in ROOT.glob("*/__init__.py")]
    rooms = {each.parent for top in tops for each in top.rglob("__init__.py")}
    assert named == {room.relative_to(ROOT).as_posix() for room in rooms}


def test_the_code_that_reads_a_cache_compiles() -> None:
    for page in PAGES:
        for block in blocks(page, "python"):
            compile(block, page.name, "exec")


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_loads_and_is_written_of(name: str) -> None:
    path = Path(configs.__file__).parent / f"{name}.yaml"
    data = load_yaml(path)
    assert data and set(data) <= set(SECTIONS), f"sections of {name}: {sorted(data)}"
    if "detect" in data:
        load_config(DetectConfig, recipe=name, section="detect")
    if "train" in data:
        values = {} if "task" in (data["train"] or {}) else {"task": "mask"}
        load_config(TrainConfig, recipe=name, section="train", values=values)
    assert any(f"`{name}`" in page.read_text("utf-8") for page in PAGES), f"{name} is in no page"
    assert path.read_text("utf-8").startswith("#"), f"{name} does not say what it is for"


def test_every_recipe_has_a_figure_seen_here_or_was_never_run() -> None:
    text = (ROOT / "docs" / "recipes.md").read_text("utf-8")
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| `")]
    seen = {
        name: row[3] for row in rows if len(row) == 5 for name in re.findall(r"`(\w+)`", row[1])
    }
    for name in recipe_names():
        said = seen.get(name, "")
        has_figure = re.search(r"\.\d{3}\b", said) is not None
        assert has_figure or "never run here" in said or "run by `make" in said, name


def test_recipes_in_the_docs_load(tmp_path: Path) -> None:
    recipes = [text for page in PAGES for text in blocks(page, "yaml") if section_names(text)]
    assert set.union(*map(section_names, recipes)) == {"detect", "train"}
    for number, text in enumerate(recipes):
        path = tmp_path / f"{number}.yaml"
        path.write_text(text)
        task = {} if "task" in (yaml.safe_load(text).get("train") or {}) else {"task": "mask"}
        for section, model in SECTIONS.items():
            values = task if section == "train" else {}
            load_config(model, recipe=str(path), section=section, values=values)


def section_names(text: str) -> set[str]:
    """The sections of a recipe; none where the YAML is something else, such as a schema."""
    return set(yaml.safe_load(text)) & set(SECTIONS)


def test_every_lever_in_the_tables_is_a_setting() -> None:
    text = (ROOT / "docs" / "recipes.md").read_text("utf-8")
    levers = re.findall(rf"`((?:{'|'.join(TrainConfig.model_fields)}): [^`]+)`", text)
    assert len(levers) > 40
    for lever in levers:
        TrainConfig.model_validate({"task": "age", **yaml.safe_load(lever)})


def test_every_setting_of_harden_in_the_docs_is_one() -> None:
    text = (ROOT / "docs" / "hardening.md").read_text("utf-8").partition("\n## Settings\n")[2]
    rows = [line.split(" | ")[0] for line in text.splitlines() if line.startswith("| `")]
    names = [name for row in rows for name in re.findall(r"`([\w.]+)`", row)]
    assert len(names) > 10
    for name in names:
        if name not in HardenConfig.model_fields:
            section, _, field = name.partition(".")
            assert field in HardenConfig.model_fields[section].annotation.model_fields, name


def test_commands_in_recipes_are_calls() -> None:
    for name in recipe_names():
        text = (Path(configs.__file__).parent / f"{name}.yaml").read_text("utf-8")
        for command in re.findall(r"^# *command: *(.+)$", text, re.MULTILINE):
            for words in shell_lines(command):
                args = cropfirst_args(words)
                assert args is not None, command
                check_call(args)


def test_layouts_statuses_and_backgrounds_have_a_row_in_the_docs() -> None:
    from cropfirst.stage1_detect.config import Background
    from cropfirst.stage2_classify.datasets import LAYOUTS
    from cropfirst.stage2_classify.voting.prediction_table import STATUSES

    for page, names in [
        ("datasets.md", LAYOUTS),
        ("detect.md", (*STATUSES, *get_args(Background))),
    ]:
        text = (DOCS / page).read_text("utf-8")
        for name in names:
            assert re.search(rf"^\| `{name}`", text, re.MULTILINE), f"{page} has no row for {name}"


def test_places_to_change_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    paths = [path for path in re.findall(r"`([\w./]+(?:\.py|\.yaml|\.md|/))`", text) if "/" in path]
    assert len(paths) > 20
    for path in paths:
        assert "NAME" in path or (ROOT / path).exists(), path
    names = re.findall(r"`(\w+)`[^`|.;]*\(`([\w./]+\.py)`\)", text)
    assert len(names) > 5
    for name, path in names:
        assert re.search(rf"\b{name}\b", (ROOT / path).read_text("utf-8")), f"{name} in {path}"


def test_every_extra_has_a_row_on_the_page_on_installing() -> None:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    rows = re.findall(r"^\| (`[^|]+) \|", (DOCS / "install.md").read_text("utf-8"), re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`([^`]+)`", row)}
    assert named == set(parser["options.extras_require"]) - {"dev"}


def test_the_glossary_is_sorted_and_has_every_status_and_background() -> None:
    from cropfirst.stage2_classify.voting.prediction_table import STATUSES

    text = (DOCS / "glossary.md").read_text("utf-8")
    terms = re.findall(r"^\| (?!term|---)([^|]+) \| \S", text, re.MULTILINE)
    assert terms == sorted(set(terms), key=str.lower) and len(terms) > 40
    assert set(STATUSES) <= set(terms)


def test_both_readmes_have_the_same_code_commands_and_links() -> None:
    for language in ("bash", "text", "python"):
        assert blocks(KOREAN, language) == blocks(README, language), language
    commands = [
        re.findall(r"^\| (`[a-z][^|]*) \|", page.read_text("utf-8"), re.MULTILINE)
        for page in (README, KOREAN)
    ]
    assert commands[0] == commands[1] and len(commands[0]) > len(COMMANDS)
    links = [
        {target for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)) if "README" not in target}
        for page in (README, KOREAN)
    ]
    assert links[0] == links[1]
    titles = [re.findall(r"^(#+) ", prose(page), re.MULTILINE) for page in (README, KOREAN)]
    assert titles[0] == titles[1]


def test_the_readme_is_short() -> None:
    for page in (README, KOREAN):
        assert len(page.read_text("utf-8").splitlines()) < 300, page.name


def test_the_picture_is_there_and_light() -> None:
    picture = ROOT / "docs" / "images" / "why.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size < 300_000


def test_the_picture_is_what_its_script_draws() -> None:
    drawn = runpy.run_path(str(DOCS / "make_images.py"))["draw_picture"]().convert("RGB")
    kept = Image.open(DOCS / "images" / "why.png").convert("RGB")
    assert drawn.size == kept.size
    difference = np.abs(np.asarray(drawn, np.int16) - np.asarray(kept, np.int16)).mean()
    assert difference < 1, "docs/images/why.png is old: run python docs/make_images.py"
