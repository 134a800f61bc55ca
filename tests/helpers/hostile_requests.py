"""Requests that no well-behaved client sends, each with the status that is right.

A status of 0 is a connection that is closed without an answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

KEY = "hostile-key-0123456789"
HOST = b"Host: 127.0.0.1\r\n"
AUTH = b"Authorization: Bearer " + KEY.encode() + b"\r\n"
END = b"Connection: close\r\n\r\n"
POST = b"POST /v1/predict HTTP/1.1\r\n" + HOST + AUTH
IMAGE = b"Content-Type: image/png\r\n"
CHUNKED = POST + IMAGE + b"Transfer-Encoding: chunked\r\n"
UPGRADE = (
    HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)  # fmt: skip
STREAM = b"GET /v1/stream HTTP/1.1\r\n" + UPGRADE + AUTH + b"\r\n"


@dataclass(frozen=True)
class Hostile:
    """One request, or the frames of one stream."""

    name: str
    wanted: tuple[int, ...]
    """The answers, in order."""
    parts: tuple[bytes, ...]
    """Sent one after the other."""
    half_open: bool = False
    """Whether the client then ends its side of the connection."""


def one(name: str, wanted: int, *parts: bytes, half_open: bool = False) -> Hostile:
    return Hostile(name, (wanted,), parts, half_open)


def get(path: bytes, head: bytes = HOST + AUTH) -> bytes:
    return b"GET " + path + b" HTTP/1.1\r\n" + head + END


def with_body(body: bytes, kind: bytes) -> bytes:
    length = b"Content-Length: %d\r\n" % len(body)
    return POST + b"Content-Type: " + kind + b"\r\n" + length + END + body


def lengths() -> Iterator[Hostile]:
    """Two lengths of one body, or none: a proxy may take the rest for the next request."""
    smuggled = b"0\r\n\r\nGET /metrics HTTP/1.1\r\n" + HOST + AUTH + b"\r\n"
    both = b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"
    for path in (b"/v1/predict", b"/healthz", b"/", b"/nothing"):
        for pair in (both, both[::-1]):
            head = b"POST " + path + b" HTTP/1.1\r\n" + HOST + AUTH + IMAGE + b"".join(pair)
            yield one(f"smuggled behind {path!r} {pair[0]!r}", 400, head + b"\r\n" + smuggled)
    for number, text in enumerate(
        (b"-1", b"+5", b"0x5", b"5.0", b"5e0", b"abc", b"", b"5 5", b"9" * 30, b"9" * 5000,
         b"\xb2", b"5\r\nContent-Length: 6", b"5, 6", b"5,", b"1_0")
    ):  # fmt: skip
        head = POST + IMAGE + b"Content-Length: " + text + b"\r\n" + END
        yield one(f"Content-Length {number} {text[:9]!r}", 400, head + b"abcde")
    twice = POST + IMAGE + b"Content-Length: 5\r\n" * 2 + END + b"abcde"
    yield one("twice the same length", 415, twice)
    for text in (
        b"gzip", b"gzip, chunked", b"chunked, gzip", b"xchunked",
        b"chunked\r\nTransfer-Encoding: chunked", b"\x0bchunked", b"identity", b"chunked;q=1",
        b"",
    ):  # fmt: skip
        head = POST + IMAGE + b"Transfer-Encoding: " + text + b"\r\n" + END
        yield one(f"Transfer-Encoding {text!r}", 400, head + b"0\r\n\r\n")
    yield one("blank before colon", 400, POST + b"Transfer-Encoding : chunked\r\n" + END)
    for text in (
        b"zz\r\nabc", b"-1\r\nabc", b"+3\r\nabc", b"0x3\r\nabc", b" 3\r\nabc", b"3\r\nabcXX",
        b"F" * 30 + b"\r\n", b"\r\n\r\n", b"3\rabc",
    ):  # fmt: skip
        yield one(f"chunk {text[:9]!r}", 400, CHUNKED + END + text + b"\r\n0\r\n\r\n")
    yield one("chunk with an extension", 415, CHUNKED + END + b"3;a=b\r\nabc\r\n0\r\n\r\n")
    yield one("chunks and a trailer", 415, CHUNKED + END + b"3\r\nabc\r\n0\r\nHost: evil\r\n\r\n")
    part = b"40000\r\n" + bytes(0x40000) + b"\r\n"
    yield one("chunks above the limit", 413, CHUNKED + END + part + part)
    yield one("one-byte chunks", 415, CHUNKED + END + b"1\r\nx\r\n" * 5000 + b"0\r\n\r\n")
    short = POST + IMAGE + b"Content-Length: 1\r\n" + END
    yield one("more than stated", 415, short + b"xGET / HTTP/1.1\r\n\r\n")
    yield one("2 GB stated", 413, POST + IMAGE + b"Content-Length: 2147483648\r\n" + END)
    stated = POST + IMAGE + b"Content-Length: 9\r\n" + END
    yield one("body ends early", 0, stated + b"a", half_open=True)
    yield one("chunks end early", 0, CHUNKED + END + b"3\r\nabc\r\n", half_open=True)
    bad = b"POST /v1/predict HTTP/1.1\r\nHost: evil\r\nTransfer-Encoding: chunked\r\n\r\n"
    yield one("bad chunk after the answer", 421, bad, b"zz\r\n")
    asked = POST + IMAGE + b"Expect: 100-continue\r\nContent-Length: 3\r\n" + END
    yield Hostile("asks whether to send", (100, 415), (asked, b"abc"))


def heads() -> Iterator[Hostile]:
    """Broken request lines and headers."""
    rest = HOST + AUTH + END
    for line in (
        b"GET /docs", b"GET /docs HTTP/9", b"GET /docs HTTP/1.1.1", b"GET /docs http/1.1",
        b"GET  /docs HTTP/1.1", b"GET /do cs HTTP/1.1", b"GET /d\xc3\xa9 HTTP/1.1",
        b"GET /\x7f HTTP/1.1", b"GET /\0 HTTP/1.1", b"GE(T /docs HTTP/1.1",
        b" GET /docs HTTP/1.1", b"GET\t/docs\tHTTP/1.1", b"/docs", b"", b"\xff\xfe",
        b"GET / HTTP/1.1\0",
    ):  # fmt: skip
        yield one(f"line {line!r}", 400, line + b"\r\n" + rest)
    for field in (
        b"nocolon",
        b": empty",
        b"X: a\0b",
        b"X\x80: a",
        b"X y: a",
        b"X: a\rb",
        b"Host: evil",
    ):
        yield one(f"field {field!r}", 400, b"GET /docs HTTP/1.1\r\n" + field + b"\r\n" + rest)
    yield one("no host", 400, b"GET /docs HTTP/1.1\r\n" + END)
    yield one("HTTP/1.0 without host", 421, b"GET /docs HTTP/1.0\r\n\r\n")
    yield one("HTTP/1.0", 200, b"GET /docs HTTP/1.0\r\n" + HOST + b"\r\n")
    yield one("a fold", 200, b"GET /docs HTTP/1.1\r\n" + b"X: a\r\n b\r\n" + rest)
    yield one("bare line feeds", 200, b"GET /docs HTTP/1.1\nHost: 127.0.0.1\nConnection: close\n\n")
    yield one(
        "500 fields", 200, get(b"/docs", HOST + b"".join(b"X%d: y\r\n" % k for k in range(500)))
    )
    yield one("100,000 fields", 400, get(b"/docs", HOST + b"X: y\r\n" * 100_000))
    yield one("a field of 500 kB", 400, get(b"/docs", HOST + b"X: " + b"a" * 500_000 + b"\r\n"))
    yield one("a path of 500 kB", 400, get(b"/" + b"a" * 500_000))
    yield one("a method of 500 kB", 400, b"A" * 500_000 + b" / HTTP/1.1\r\n" + rest)
    for start in (
        b"\x16\x03\x01\x02\x00" + bytes(300), b"\0" * 1000, b"SSH-2.0-x\r\n", b"EHLO x\r\n",
        b"*1\r\n$4\r\nPING\r\n", b"\x05\x01\x00\r\n",
    ):  # fmt: skip
        yield one(f"protocol {start[:8]!r}", 400, start + b"\r\n\r\n")
    yield Hostile("HTTP/2", (421, 400), (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",))
    whole = b"GET /docs HTTP/1.1\r\n" + HOST + b"\r\n"
    yield Hostile("junk behind a request", (200, 400), (whole + b"JUNK\r\n\r\n",))
    yield Hostile("20 requests at once", (200,) * 21, (whole * 20 + get(b"/docs"),))
    yield one("ends in the head", 0, b"GET /docs HT", half_open=True)
    yield one("ends at once", 0, half_open=True)
    for method in (
        b"GET",
        b"PUT",
        b"DELETE",
        b"PATCH",
        b"OPTIONS",
        b"TRACE",
        b"HEAD",
        b"PROPFIND",
        b"predict",
        b"A" * 999,
    ):
        yield one(f"{method[:9]!r} of predict", 405, method + b" /v1/predict HTTP/1.1\r\n" + rest)
    for method in (b"POST", b"PUT", b"DELETE", b"OPTIONS", b"TRACE", b"PATCH"):
        for path in (b"/", b"/metrics", b"/docs"):
            yield one(
                f"{method!r} of {path!r}", 405, method + b" " + path + b" HTTP/1.1\r\n" + rest
            )
    for method, wanted in ((b"GET", 426), (b"HEAD", 426), (b"POST", 405), (b"DELETE", 405)):
        yield one(f"{method!r} of a stream", wanted, method + b" /v1/stream HTTP/1.1\r\n" + rest)
    yield one("CONNECT", 404, b"CONNECT evil:443 HTTP/1.1\r\n" + rest)
    yield one("asterisk", 404, b"OPTIONS * HTTP/1.1\r\n" + rest)
    yield one("another protocol", 200, get(b"/docs", HOST + b"Upgrade: h2c\r\n"))


def names() -> Iterator[Hostile]:
    """Hosts, origins and keys that are not the server's."""
    for host in (
        b"", b"[", b"]", b"[]", b":", b":80", b"evil", b"evil:80", b"127.0.0.1.evil",
        b"127.0.0.1@evil", b"evil@127.0.0.1", b"127.0.0.1:99999999", b"127.0.0.1:x",
        b"127.0.0.1:80:80", b"[::1]evil", b"[::1", b"::1", b"127.0.0.1.", b"127.1", b"0x7f.1",
        b"2130706433", b"0.0.0.0", b"localhost.", b"127.0.0.1,evil", b"127.0.0.1 evil",
        b"127.0.0.1/..", b"\xc3\xa9", b"a" * 9000, b"127.0.0.1\tx", b"xn--e1a",
    ):  # fmt: skip
        yield one(f"host {host[:20]!r}", 421, get(b"/docs", b"Host: " + host + b"\r\n"))
    for origin in (
        b"", b"null", b"http://evil", b"http://[::1", b"http://][", b"http://127.0.0.1:1",
        b"http://127.0.0.1.evil", b"file://", b"http://a@127.0.0.1", b"http://127.0.0.1/",
        b"http://127.0.0.1#", b"http://127.0.0.1\xe9", b"127.0.0.1", b"//127.0.0.1",
        b"http://127.0.0.1 http://evil", b"http://127.0.0.1\r\nOrigin: http://evil",
        b"a" * 9000,
    ):  # fmt: skip
        field = b"Origin: " + origin + b"\r\n"
        yield one(f"origin {origin[:20]!r}", 403, get(b"/docs", HOST + field))
        is_head = field.count(b"Origin") == 1 and len(field) < 8000
        wanted = 403 if is_head else 400
        yield one(f"stream of {origin[:20]!r}", wanted, STREAM[:-2] + field + b"\r\n")
    good = AUTH[len("Authorization: Bearer ") : -2]
    for number, key in enumerate(
        (b"", b"Bearer", b"Bearer ", b"Bearer wrong", b"Basic " + good, good,
         b"Bearer " + good[:-1], b"Bearer " + good + b"x",
         b"Bearer " + good.upper(), b"Bearer \xe9\xff", b"Bearer " + b"a" * 9000, b"Bearer *",
         b"Bearer " + good + b"," + good,
         b"Bearer\x00" + good[:0], b"Digest username=x", b"Bearer null", b"Bearer " + good[::-1])
    ):  # fmt: skip
        wanted = 400 if b"\0" in key else 401
        field = b"Authorization: " + key + b"\r\n"
        yield one(f"key {number}", wanted, get(b"/metrics", HOST + field))
        body = b"POST /v1/predict HTTP/1.1\r\n" + HOST + field + IMAGE + b"Content-Length: 3\r\n"
        yield one(f"key {number} with a body", wanted, body + END + b"abc")
    yield one("no key", 401, get(b"/metrics", HOST))
    yield one("key in the query", 401, get(b"/metrics?key=" + good, HOST))
    yield one("key in a cookie", 401, get(b"/metrics", HOST + b"Cookie: key=" + good + b"\r\n"))
    for path in (b"/v1%2fpredict", b"/%76%31/predict", b"/metrics?", b"/v1/", b"/v1/nothing"):
        yield one(f"no key for {path!r}", 401, get(path, HOST))


def paths() -> Iterator[Hostile]:
    """Files that nobody serves."""
    for path in (
        b"/..%2f..%2fetc/passwd", b"/%2e%2e/%2e%2e/etc/passwd", b"/../../etc/passwd",
        b"/..\\..\\x", b"/%5c..%5cx", b"/%00", b"/index.html%00.png", b"/%c0%af%c0%ae",
        b"/%e0%80%af", b"/%ff%fe", b"/%ef%bc%8f", b"/bundle/../index.html",
        b"/bundle/%2e%2e/index.html", b"//index.html", b"///etc/passwd", b"/./index.html",
        b"/index.html/", b"/INDEX.HTML", b"/index.html;x", b"/index.html%20", b"/index.html.",
        b"/index.html~", b"/index.html.bak", b"/%", b"/%z", b"/%zz", b"/%u002e", b"/%25%32%65",
        b"/C:/x", b"/file:///etc/passwd", b"/proc/self/environ", b"/.git/config", b"/.env",
        b"/bundle", b"/bundle/", b"/bundle/golden/answers.json", b"/bundle/MODEL_CARD.md",
        b"/manifest.json", b"/keys.txt", b"/static/x", b"/docs/", b"/docs/x", b"/openapi.yaml",
        b"/healthz/", b"/readyz/x", b"/metrics/", b"/v1", b"/v1/", b"/v1//predict",
        b"/v1/predict/", b"/V1/PREDICT", b"/v1/predict/..%2f", b"/v2/predict", b"/docs%3fx",
        b"/docs%23x", b"/docs#x", b"docs", b"?", b"*", b"http://127.0.0.1/docs",
        b"http://evil/docs", b"//evil/docs", b"/" + b"../" * 999, b"/" + b"a" * 9000,
        b"/%0d%0aX:%20y", b"/{path}", b"/${jndi:ldap://evil}", b"/'%20or%201=1--", b"/<script>",
        b"/%3cscript%3e",
    ):  # fmt: skip
        yield one(f"path {path[:30]!r}", 404, get(path))
    many = b"&".join(b"a%d=%d" % (k, k) for k in range(900))
    for query in (
        b"url=file:///etc/passwd", b"path=../../etc/passwd", many, b"a=" + b"b" * 9000, b"%00",
        b"%ff", b"&" * 999, b"?" * 999, b"a[b][c]=d" * 99, b"__proto__[x]=y",
    ):  # fmt: skip
        yield one(f"query {query[:20]!r}", 200, get(b"/docs?" + query))
        target = b"POST /v1/predict?" + query + b" HTTP/1.1\r\n"
        body = HOST + AUTH + IMAGE + b"Content-Length: 3\r\n" + END + b"abc"
        yield one(f"query of predict {query[:20]!r}", 415, target + body)


def bodies() -> Iterator[Hostile]:
    """Bodies of the wrong type, and broken forms."""
    form = b"multipart/form-data; boundary=b"
    file = b'--b\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\n'
    for kind in (
        b"", b"text/html", b"application/json", b"application/x-www-form-urlencoded",
        b"application/xml", b"multipart/mixed; boundary=b", b"multipart/related", b"video/mp4",
        b"image", b"imag/png", b"x/image/png", b"text/image/png", b";image/png", b"*/*",
        b"a" * 5000, b"message/rfc822", b"application/octet-strea",
    ):  # fmt: skip
        yield one(f"type {kind[:20]!r}", 415, with_body(b'{"url": "file:///etc/passwd"}', kind))
    for kind in (
        b"image/",
        b"image/../png",
        b"IMAGE/PNG",
        b"image/svg+xml",
        b"application/octet-stream; x=" + b"y" * 999,
        b"image/png\xff",
    ):
        yield one(f"type {kind[:20]!r} without one", 415, with_body(b"no image", kind))
    yield one("nested JSON", 415, with_body(b"[" * 100_000 + b"]" * 100_000, b"application/json"))
    yield one("nested JSON as an image", 415, with_body(b'{"a":' * 50_000, b"image/png"))
    yield one("no body", 422, with_body(b"", b"image/png"))
    for boundary in (
        b"", b"; boundary", b"; boundary=", b'; boundary=""', b"; boundary=" + b"b" * 5000,
        b"; boundary=c", b"; boundary=b b", b"; boundary=\xff", b"; BOUNDARY",
        b"; boundary=b\t",
    ):  # fmt: skip
        kind = b"multipart/form-data" + boundary
        yield one(f"boundary {boundary[:20]!r}", 422, with_body(b"--x\r\n\r\n", kind))
    for number, body in enumerate(
        (b"", b"--b", b"--b\r\n", b"--b--", b"--b--\r\n", b"x" * 500, b"--b\r\n\r\n",
         b"--b\r\nX\r\n\r\n", b"--b\r\n: y\r\n\r\n", file, file + b"x", file + b"x\r\n--b",
         file + b"x\r\n--c--\r\n", file[:-2], file[:30], b"\r\n\r\n" + file,
         b'--b\r\nContent-Disposition: form-data; name="url"\r\n\r\nhttp://x\r\n--b--\r\n',
         b"--b\r\nContent-Type: image/png\r\n\r\nx\r\n--b--\r\n",
         b"--b\r\nContent-Disposition: attachment\r\n\r\nx\r\n--b--\r\n",
         b"--b\r\n" + b"X: y\r\n" * 5000 + b"\r\nx\r\n--b--\r\n",
         b"--b\r\nX: " + b"y" * 100_000 + b"\r\n\r\nx\r\n--b--\r\n",
         b"--b\r\n\xff\xfe: y\r\n\r\nx\r\n--b--\r\n", b"--b\r\nX: \0\r\n\r\nx\r\n--b--\r\n",
         b"--b\n" + file, b"--b\r\n" * 500)
    ):  # fmt: skip
        yield one(f"form {number}", 422, with_body(body, form))
    closed = b"\r\n--b--\r\n"
    yield one("5 files", 413, with_body((file + b"x\r\n") * 5 + b"--b--\r\n", form))
    yield one("5,000 files", 413, with_body((file + b"x\r\n") * 5000 + b"--b--\r\n", form))
    inner = b"Content-Type: multipart/mixed; boundary=b\r\n"
    yield one(
        "a form in a form",
        415,
        with_body(file[:-2] + inner + b"\r\n" + file.replace(b"--b", b"--c") + closed, form),
    )
    yield one("a file that is empty", 415, with_body(file + closed, form))
    for name in (
        b"../../../etc/passwd",
        b"/etc/passwd",
        b"C:\\x",
        b"a\0b",
        b"a" * 5000,
        b"\xff",
        b"",
        b"con",
        b"|id",
        b"a;b",
        b"%00",
    ):
        named = file.replace(b'filename="a"', b'filename="' + name + b'"')
        wanted = 415 if len(name) < 4000 else 422
        yield one(f"a file called {name[:20]!r}", wanted, with_body(named + b"x" + closed, form))
    yield one(
        "encoded transfer",
        415,
        with_body(file[:-2] + b"Content-Transfer-Encoding: base64\r\n\r\neA==" + closed, form),
    )
    for coding in (b"gzip", b"br", b"deflate", b"compress"):
        body = POST + IMAGE + b"Content-Encoding: " + coding + b"\r\nContent-Length: 4\r\n" + END
        yield one(f"compressed by {coding!r}", 415, body + b"\x1f\x8b\x08\0")


def hostile_requests() -> list[Hostile]:
    """All of them."""
    return [*lengths(), *heads(), *names(), *paths(), *bodies()]
