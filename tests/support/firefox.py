"""A second engine for the tests: Debian's Firefox, driven by WebDriver BiDi, which it speaks by itself.

    def test_a_page(firefox: Firefox) -> None:
        with firefox.page(address, density=2) as page:
            page.settle()
            assert page.run("document.images.length") == 60

Playwright knows only a Firefox of its own, and needs a download for it. Without Firefox or websockets (the
extra ``browser``) these tests are skipped. Nothing outside of this machine is asked for. The protocol:
https://www.w3.org/TR/webdriver-bidi/.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support.browsing import TURNS
from support.serving import eventually

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

__all__ = ["Firefox", "Page", "firefox"]

_WAIT_S = 60.0  # for whatever has to happen; nothing takes a tenth of it on an idle machine
_PREFERENCES = {
    "app.normandy.enabled": False,
    "app.update.enabled": False,
    "browser.cache.disk.enable": False,  # a cache in memory is one as well
    "browser.safebrowsing.update.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "dom.push.connection.enabled": False,
    "extensions.systemAddon.update.enabled": False,
    "extensions.update.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "data:,",
    "toolkit.telemetry.enabled": False,
    "network.dns.disabled": True,  # what is left finds no address,
    "network.proxy.type": 0,  # and no proxy of the system
}
# Without the second the preference for the server of settings counts for nothing.
_ENVIRONMENT = {"MOZ_CRASHREPORTER_DISABLE": "1", "MOZ_REMOTE_SETTINGS_DEVTOOLS": "1"}
_EVENTS = [
    "network.beforeRequestSent",
    "network.responseCompleted",
    "network.fetchError",
    "log.entryAdded",
    "script.message",
]
# What a policy forbids is no error on the console.
_WATCH_POLICY = """(say) => addEventListener("securitypolicyviolation", (event) =>
  say(`${event.effectiveDirective} forbids ${event.blockedURI} ${event.sample}`))"""


class Refused(Exception):
    """Firefox could not do what it was told, or a script threw."""


class Firefox:
    """A running Firefox; *version* as it says it. A page has a container of its own: no cookies, no cache."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._commands = 0
        self._pages: dict[str, Page] = {}
        self.version: str = self.call("session.new", capabilities={})["capabilities"]["browserVersion"]
        self.call("session.subscribe", events=_EVENTS)

    def tell(self, method: str, **params: Any) -> int:
        """Send a command, and wait for nothing; its number."""
        self._commands += 1
        self._socket.send(json.dumps({"id": self._commands, "method": method, "params": params}))
        return self._commands

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of a command. Events that come before it are handed to their pages.

        Raises Refused with what Firefox says of an error, and TimeoutError when it says nothing.
        """
        number = self.tell(method, **params)
        deadline = time.monotonic() + _WAIT_S
        while True:
            message = json.loads(self._socket.recv(deadline - time.monotonic()))
            if message["type"] == "event":
                self._hand_on(message["method"], message["params"])
            elif message["id"] == number:
                if message["type"] == "error":
                    raise Refused(f"{method}: {message['error']}: {message['message']}")
                return dict(message["result"])

    def _hand_on(self, event: str, params: dict[str, Any]) -> None:
        tab = params.get("context") or params.get("source", {}).get("context")
        if tab in self._pages:
            self._pages[tab].note(event, params)

    @contextmanager
    def page(
        self, address: str = "", density: float = 1, size: tuple[int, int] = (900, 700)
    ) -> Iterator[Page]:
        """A tab without a past, at *address* if one is given; *size* and *density* as in ``Page.view``.

        Fails at the end when the page said an error, or a Content-Security-Policy forbade something.
        """
        container = self.call("browser.createUserContext")["userContext"]
        tab = self.call("browsingContext.create", type="tab", userContext=container)["context"]
        page = self._pages[tab] = Page(self, tab)
        try:
            page.view(*size, density)
            channel = {"type": "channel", "value": {"channel": "policy"}}
            self.call(
                "script.addPreloadScript",
                functionDeclaration=_WATCH_POLICY,
                arguments=[channel],
                contexts=[tab],
            )
            if address:
                page.go(address)
            yield page
            page.run("0")  # events come in order, so all are here
            assert not page.said, page.said
        finally:
            del self._pages[tab]
            self.call("browser.removeUserContext", userContext=container)  # and with it the tab


class Page:
    """A tab of Firefox, and what it *said*: errors, and what a policy forbade."""

    def __init__(self, browser: Firefox, tab: str) -> None:
        self._browser = browser
        self._tab = tab
        self._requests: dict[str, str] = {}  # number -> address, but for what came out of a cache
        self._under_way: set[str] = set()
        self._held = ""
        self.said: list[str] = []

    @property
    def asked(self) -> list[str]:
        """The addresses that were asked for over the network, in order; those that were given up too."""
        return list(self._requests.values())

    def note(self, event: str, params: dict[str, Any]) -> None:
        """Remember an event of this tab."""
        if event == "log.entryAdded":
            self.said += [params["text"]] if params["level"] == "error" else []
        elif event == "script.message":
            self.said.append(params["data"]["value"])
        else:
            self._note_request(event, params, params["request"]["request"], params["request"]["url"])

    def _note_request(self, event: str, params: dict[str, Any], number: str, url: str) -> None:
        if event == "network.beforeRequestSent":
            self._requests[number] = url
            self._under_way.add(number)
            if params["isBlocked"] and self._held not in url:
                self._browser.tell("network.continueRequest", request=number)
            return
        self._under_way.discard(number)
        if event == "network.responseCompleted" and params["response"]["fromCache"]:
            del self._requests[number]

    def view(self, width: int, height: int, density: float = 1) -> None:
        """Make the viewport as large as this, in CSS pixels; *density* is its devicePixelRatio."""
        size = {"width": width, "height": height}
        self._call("browsingContext.setViewport", viewport=size, devicePixelRatio=density)

    def go(self, address: str, wait: str = "complete") -> None:
        """Go there, and return when the document is *complete*, or only parsed: *interactive*."""
        self._call("browsingContext.navigate", url=address, wait=wait)

    def run(self, expression: str) -> Any:
        """What *expression* gives, or the promise that it gives: whatever JSON can say.

        Raises Refused when it throws.
        """
        done = self._browser.call(
            "script.evaluate",
            expression=f"Promise.resolve({expression}).then((value) => JSON.stringify(value))",
            target={"context": self._tab},
            awaitPromise=True,
        )
        if done["type"] == "exception":
            raise Refused(f"{expression}: {done['exceptionDetails']['text']}")
        return json.loads(done["result"].get("value", "null"))

    def until(self, expression: str) -> None:
        """Return when *expression* is true; fails when it does not become so."""
        deadline = time.monotonic() + _WAIT_S
        while not self.run(expression):
            assert time.monotonic() < deadline, f"this never was true: {expression}"
            time.sleep(0.02)

    def turn(self) -> None:
        """Return when observers have had their turns."""
        self.run(TURNS)

    def settle(self) -> None:
        """Return when observers have had their turns and no request is under way any more."""
        deadline = time.monotonic() + _WAIT_S
        quiet = 0
        while quiet < 3:
            assert time.monotonic() < deadline, f"this has no answer: {sorted(self._under_way)}"
            self.turn()
            quiet = 0 if self._under_way else quiet + 1

    @contextmanager
    def held(self, part: str) -> Iterator[None]:
        """While the block runs no request whose address has *part* in it leaves the browser."""
        self._held = part
        hold = self._browser.call("network.addIntercept", phases=["beforeRequestSent"], contexts=[self._tab])[
            "intercept"
        ]
        try:
            yield
        finally:
            self._browser.call("network.removeIntercept", intercept=hold)
            for number in self._under_way:
                self._browser.tell("network.continueRequest", request=number)

    def print(self) -> bytes:
        """The page on paper, as a PDF."""
        return b64decode(self._call("browsingContext.print")["data"])

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        return self._browser.call(method, context=self._tab, **params)


@pytest.fixture(scope="module")
def firefox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firefox]:
    """One Firefox for all tests of a module."""
    client = pytest.importorskip("websockets.sync.client", reason="needs websockets (the extra browser)")
    program = shutil.which("firefox-esr") or shutil.which("firefox")
    if program is None:
        pytest.skip("needs Firefox")
    with (
        _running(program, tmp_path_factory.mktemp("firefox")) as address,
        client.connect(f"{address}/session", compression=None, max_size=None, proxy=None) as socket,
    ):
        yield Firefox(socket)


@contextmanager
def _running(program: str, home: Path) -> Iterator[str]:
    """Where Firefox listens, ws://host:port, while the block runs. At its end all of its processes end."""
    profile = home / "profile"
    profile.mkdir()
    lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in _PREFERENCES.items()]
    (profile / "user.js").write_text("".join(lines))
    log = home / "said.log"  # a pipe that nobody reads would stop it one day
    with log.open("wb") as said:
        process = subprocess.Popen(
            [program, "--headless", "--no-remote", "--profile", str(profile), "--remote-debugging-port", "0"],
            stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True,
            env={**os.environ, "HOME": str(home), **_ENVIRONMENT},
        )  # fmt: skip
    try:
        eventually(lambda: process.poll() is not None or _address(log), _WAIT_S)
        assert _address(log), log.read_text()
        yield _address(log)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # there is nothing to save
        process.wait(_WAIT_S)
        shutil.rmtree(profile, ignore_errors=True)  # 40 MB


def _address(log: Path) -> str:
    """Where Firefox said that it listens, or nothing so far."""
    found = re.search(r"BiDi listening on (ws://\S+)\n", log.read_text())
    return found[1] if found else ""
