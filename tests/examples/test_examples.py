"""The example works: it is started as the README says, and all that its pages name is there."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from PIL import Image
from support.exampling import COMMAND, ROOT, example
from support.htmlcheck import problems
from support.serving import Client, Reply, Server, is_right

FORM = "application/x-www-form-urlencoded"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The example by its command, drawn small, with a short ladder, so that all of it can be rendered."""
    folder = tmp_path_factory.mktemp("example")
    settings = {"IMAGEFACTORY_LIMITS__LADDER": "[160, 480]", "IMAGEFACTORY_ENCODINGS__AVIF__SPEED": "10"}
    with example(folder, width=480, **settings) as found:
        yield found


class Visitor:
    """A browser of a sort: it keeps its cookie, follows no redirect, sends forms with their hidden fields."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.cookie = ""

    def get(self, path: str) -> Reply:
        return self._ask(path)

    def post(self, path: str, **fields: str) -> Reply:
        return self._ask(path, urlencode(fields).encode())

    def log_in(self, password: str = "open sesame") -> Reply:
        return self.post("/login", form_token=token_in(self.get("/login")), password=password)

    def _ask(self, path: str, form: bytes | None = None) -> Reply:
        headers = {"Cookie": self.cookie} if self.cookie else {}
        if form is None:
            reply = self.client.get(path, **headers)
        else:
            reply = self.client.get(path, "POST", form, Content_Type=FORM, **headers)
        if "set-cookie" in reply.headers:
            self.cookie = reply.headers["set-cookie"].partition(";")[0]
        return reply


def token_in(reply: Reply) -> str:
    found = re.search(rb'name="form_token" value="([^"]+)"', reply.body)
    assert found, reply
    return found[1].decode()


@pytest.fixture
def visitor(server: Server) -> Iterator[Visitor]:
    with server.client() as client:
        yield Visitor(client)


class Addresses(HTMLParser):
    """The addresses in a page, and the width that the page promises for each (0 where it says none)."""

    def __init__(self, page: Reply) -> None:
        super().__init__()
        self.found: dict[str, int] = {}
        self.feed(page.body.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name.endswith("srcset"):
                pairs = (each.split() for each in str(value).split(", "))
                self.found |= {url: int(width.removesuffix("w")) for url, width in pairs}
            elif name in ("src", "href") and not str(value).startswith("data:"):
                self.found.setdefault(str(value), 0)
            elif name == "style" and "url(/" in str(value):
                self.found.setdefault(str(value).partition("url(")[2].rstrip(")"), 0)


def check_pictures(visitor: Visitor, page: Reply) -> int:
    """All pictures in *page* are what it says of them; their number."""
    found = {url: width for url, width in Addresses(page).found.items() if url.startswith("/picture/")}
    for url, width in found.items():
        query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        reply = visitor.get(url)
        assert is_right(reply), (url, reply)
        with Image.open(io.BytesIO(reply.body)) as image:
            encoding = str(image.format).lower()
            assert reply.headers["content-type"] == f"image/{encoding}", url
            assert query["encoding"] in (encoding, "auto"), url
            assert image.width == (width or int(query.get("scalex", image.width))), url
            if "scaley" in query:
                assert abs(image.height - image.width * int(query["scaley"]) / int(query["scalex"])) <= 1, url
    return len(found)


@pytest.mark.parametrize("path", ["/", "/article", "/login", "/nothing"])
def test_pages_are_valid_and_guarded(visitor: Visitor, path: str) -> None:
    page = visitor.get(path)
    assert page.status == (404 if path == "/nothing" else 200)
    assert problems(page.body) == []
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    for url in Addresses(page).found:
        if not url.startswith("/picture/"):
            assert visitor.get(url).status in (200, 302), url


@pytest.mark.parametrize(("path", "least"), [("/", 36 * 7), ("/article", 40)])
def test_each_picture_of_a_page_is_what_it_says(visitor: Visitor, path: str, least: int) -> None:
    page = visitor.get(path)
    assert check_pictures(visitor, page) >= least
    assert page.body.count(b'style="background:url(data:image/webp;base64,') >= page.body.count(b"<img") // 2


def test_members_log_in_see_signed_pictures_and_log_out(visitor: Visitor) -> None:
    assert visitor.get("/members").headers["location"] == "/login"
    assert visitor.get("/members/links").status == 302
    assert visitor.log_in().headers["location"] == "/members"
    page = visitor.get("/members")
    assert page.headers["cache-control"] == "private, no-store"
    assert problems(page.body) == []
    assert check_pictures(visitor, page) >= 6 * 6
    for url in Addresses(page).found:
        if url.startswith("/picture/members/"):
            control = visitor.get(url).headers["cache-control"]
            assert control.startswith("private, max-age=")
            assert int(control.rpartition("=")[2]) <= 660
            assert visitor.get(url.partition("&e=")[0]).status == 403
    assert visitor.post("/logout", form_token=token_in(page)).status == 303
    assert visitor.get("/members").status == 302


def test_a_link_that_was_changed_or_kept_too_long_is_refused(visitor: Visitor) -> None:
    """As the page about it says in each row."""
    visitor.log_in()
    page = visitor.get("/members/links")
    assert problems(page.body) == []
    rows = re.findall(r'<td><a href="([^"]+)">[^<]+</a></td><td>(\d+)([^<]*)</td>', page.body.decode())
    assert [status for _, status, _ in rows] == ["200", "403", "403", "403", "403"]
    for url, status, code in rows:
        reply = visitor.get(url.replace("&amp;", "&"))
        assert (reply.status, code.strip() in reply.body.decode("latin-1")) == (int(status), True), url


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"password": "open barley"}, 403),
        ({"password": ""}, 403),
        ({"password": "open sesame", "form_token": "guessed"}, 400),
        ({"password": "open sesame", "form_token": ""}, 400),
    ],
)
def test_who_has_no_password_or_no_form_stays_outside(
    visitor: Visitor, fields: dict[str, str], status: int
) -> None:
    token = token_in(visitor.get("/login"))
    assert visitor.post("/login", **{"form_token": token, **fields}).status == status
    assert visitor.get("/members").status == 302


def test_a_form_without_a_cookie_is_refused(visitor: Visitor) -> None:
    """A page of somebody else sends none along (SameSite), nor does it know the token."""
    assert visitor.post("/login", form_token="", password="open sesame").status == 400
    assert visitor.post("/logout", form_token="").status == 400


def test_the_readme_has_the_command() -> None:
    assert COMMAND in (ROOT / "README.md").read_text()
    assert "make example" in (ROOT / "README.md").read_text()


DOCS = ROOT / "docs" / "responsive-pictures.md"


def test_the_docs_point_to_the_right_lines() -> None:
    """The title of such a link is what is to be found in its first line."""
    links = re.findall(r'\]\(\.\./(examples/[^)#]+)#L(\d+)(?:-L(\d+))? "([^"]+)"\)', DOCS.read_text())
    assert len(links) > 10
    for name, first, last, needle in links:
        lines = (ROOT / name).read_text().splitlines()
        assert needle in lines[int(first) - 1], (name, needle)
        assert int(last or first) <= len(lines), name


def test_the_docs_quote_the_templates() -> None:
    text = "".join(path.read_text() for path in sorted((ROOT / "examples/templates").iterdir()))
    quoted = re.findall(r"```jinja\n(.*?)```", DOCS.read_text(), re.DOTALL)
    missing = [line for block in quoted for line in block.splitlines() if line.strip() not in text]
    assert (len(quoted), missing) == (6, [])
