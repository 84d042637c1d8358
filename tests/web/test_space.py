"""The hub Space: `space/app.py` makes the page of the model that it is told, for the hub's own frames."""

import runpy
from pathlib import Path

from starlette.testclient import TestClient

from tiny_models import export_rdg

SPACE = Path(__file__).parents[2] / "space"


def test_the_space_serves_a_model(tmp_path, monkeypatch):
    monkeypatch.setenv("S2IGAN_MODEL", str(export_rdg(tmp_path / "model")))
    app = runpy.run_path(str(SPACE / "app.py"))["app"]
    client = TestClient(app, base_url="https://owner-name.hf.space")
    page = client.get("/")
    assert page.status_code == 200
    assert "frame-ancestors https://huggingface.co https://*.hf.space" in page.headers["content-security-policy"]
    assert len(client.get("/api").json()["examples"]) == 6


def test_what_the_space_is_made_of_is_there():
    assert "CMD" in (SPACE / "Dockerfile").read_text()
    assert "app_port: 7860" in (SPACE / "README.md").read_text()
