"""The command that a setting belongs to, for a message about one given to another command."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from cropfirst.configs import Config, setting_names
from cropfirst.stage1_detect.config import DetectConfig
from cropfirst.stage1_detect.harden.config import HardenConfig
from cropfirst.stage2_classify.config import TrainConfig

_CONFIGS: dict[str, type[Config]] = {
    "detect": DetectConfig, "train": TrainConfig, "harden": HardenConfig
}  # fmt: skip


def name_commands(settings: Sequence[str]) -> list[str]:
    """Return a line for each setting that is one of a command, or in a section of one.

    Args:
        settings: dotted settings that the command they were given to does not have.
    """
    found = [_name_command(setting) for setting in settings]
    return [line for line in found if line is not None]


def _name_command(setting: str) -> str | None:
    section = setting.partition(".")[0]
    for command, config in _CONFIGS.items():
        names = setting_names(config)
        if setting in names:
            return (
                f"{setting} is a setting of {command}: cropfirst {command} DATA --set {setting}=..."
            )
        if "." in setting and section in config.model_fields:
            near = difflib.get_close_matches(setting, names, n=1)
            hint = f"; did you mean --set {near[0]}=...?" if near else ""
            return f"{section} is a section of the settings of {command}{hint}"
    return None
