"""config.toml and the environment become one frozen, checked `Config`.

The first stop of every journey: the doors (`create_app`, the Flask extension, the command line) load it once
and pass its sections down.
"""

from .loading import from_mapping, load
from .schema import Admin, Config, Http, Render, Server
from .showing import as_dict, as_toml

__all__ = ["Admin", "Config", "Http", "Render", "Server", "as_dict", "as_toml", "from_mapping", "load"]
