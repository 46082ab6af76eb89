"""config.toml and the environment become one frozen, checked ``Config``.

The first stop of every journey: the doors load it once and pass its sections down.
"""

from .schema import Admin, Config, Http, Render, Server, as_dict, as_toml, from_mapping, load

__all__ = ["Admin", "Config", "Http", "Render", "Server", "as_dict", "as_toml", "from_mapping", "load"]
