"""Configuration: defaults in frozen pydantic models, then a YAML recipe, then `--set a.b=c`.

Knows how to merge and check; knows nothing of what any setting means.
"""

from cropfirst.configs.load import (
    Config,
    flatten,
    load_config,
    load_yaml,
    recipe_names,
    recipe_path,
    save_config,
    setting_names,
)
from cropfirst.core.errors import ConfigError

__all__ = [
    "Config",
    "ConfigError",
    "flatten",
    "load_config",
    "load_yaml",
    "recipe_names",
    "recipe_path",
    "save_config",
    "setting_names",
]
