"""A small provider of sign-in (OpenID Connect, code flow) on this machine, for the tests: it knows two people and signs
what it says, as a real one does.

It serves what a client asks for: its metadata, a page to choose a person on, the exchange of a code for a signed token,
its public key. It is strict where a provider must be: a code is good once, for the client and address it was made for.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import secrets
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT, SECRET = "dynat-tests", "a secret of the tests"
Claims = dict[str, Any]


@dataclass
class Provider:
    """people: name on the page -> what is said about them. asked: how often each of its doors was used."""

    people: dict[str, Claims]
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "tests"}))
    codes: dict[str, tuple[str, dict[str, str]]] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)
    issuer: str = ""

    def __enter__(self) -> Provider:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.issuer = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *why: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def secrets(self, redirect: str, more: str = "") -> str:
        """A secrets.toml that leads here."""
        return (
            f'[auth]\nredirect_uri = "{redirect}"\ncookie_secret = "{secrets.token_hex(16)}"\n'
            f'client_id = "{CLIENT}"\nclient_secret = "{SECRET}"\n'
            f'server_metadata_url = "{self.issuer}/.well-known/openid-configuration"\n{more}'
        )

    def metadata(self) -> dict[str, Any]:
        here = self.issuer
        return {
            "issuer": here,
            "authorization_endpoint": f"{here}/authorize",
            "token_endpoint": f"{here}/token",
            "jwks_uri": f"{here}/keys",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "code_challenge_methods_supported": ["S256"],
        }

    def page(self, query: dict[str, str]) -> str:
        """The page on which a person says who they are."""
        links = []
        for name in self.people:
            code = secrets.token_urlsafe(24)
            self.codes[code] = (name, query)
            back = f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state']})}"
            links.append(f'<p><a href="{html.escape(back)}">{html.escape(name)}</a></p>')
        return "<!DOCTYPE html><title>Who are you?</title><h1>Who are you?</h1>" + "".join(links)

    def token(self, form: dict[str, str], basic: str | None) -> dict[str, Any] | None:
        """The answer to a code; None for a code, a client or a proof that is not right."""
        sent = f"{form.get('client_id')}:{form.get('client_secret')}" if basic is None else basic
        name, query = self.codes.pop(form.get("code", ""), ("", {}))
        proof = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(proof).decode().rstrip("=")
        if sent != f"{CLIENT}:{SECRET}" or not name or form.get("redirect_uri") != query["redirect_uri"]:
            return None
        if challenge != query.get("code_challenge"):
            return None
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT, "sub": name, "iat": now, "exp": now + 300, "nonce": query["nonce"]}
        signed = jwt.encode({"alg": "RS256", "kid": "tests"}, claims | self.people[name], self.key)
        return {"access_token": secrets.token_hex(8), "token_type": "Bearer", "expires_in": 300, "id_token": signed}


def _handler(provider: Provider) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            address = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(address.query).items()}
            provider.asked[address.path] = provider.asked.get(address.path, 0) + 1
            if address.path == "/.well-known/openid-configuration":
                self._send(json.dumps(provider.metadata()))
            elif address.path == "/keys":
                self._send(json.dumps({"keys": [provider.key.as_dict(private=False)]}))
            elif address.path == "/authorize" and query.get("client_id") == CLIENT:
                self._send(provider.page(query), "text/html; charset=utf-8")
            else:
                self.send_error(400)

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            form = {name: values[0] for name, values in parse_qs(content).items()}
            kind, _, coded = (self.headers.get("Authorization") or "").partition(" ")
            basic = base64.b64decode(coded).decode() if kind == "Basic" else None
            answer = provider.token(form, basic) if urlsplit(self.path).path == "/token" else None
            if answer is None:
                self._send('{"error": "invalid_grant"}', status=400)
            else:
                self._send(json.dumps(answer))

        def _send(self, content: str, kind: str = "application/json", status: int = 200) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content.encode())))
            self.end_headers()
            self.wfile.write(content.encode())

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: the tests look at what was answered."""

    return Handler
