"""The report of a what-if in a browser: opened as a file, wide and narrow, light and dark."""

import subprocess

import pytest
from test_replay_browser import FLAGS, Texts, browser  # noqa: F401  (a fixture)
from test_whatif import base, fake

from gpuyard.evaluation.report import sources
from gpuyard.evaluation.whatif import answer, fleets
from gpuyard.evaluation.whatif.page import page

PROBE = """<script>
window.addEventListener("load", () => {
  const ground = getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number);
  const seen = {
    wide: innerWidth, sticks_out: document.documentElement.scrollWidth > innerWidth,
    light: ground[0] > 128, circles: document.querySelectorAll("circle").length,
    dots: [...document.querySelectorAll("circle")]
      .every((circle) => circle.getBoundingClientRect().width > 1),
    fetched: performance.getEntriesByType("resource").length,
  };
  const said = document.createElement("p");
  said.id = "probe"; said.textContent = JSON.stringify(seen); document.body.append(said);
});
</script>"""


@pytest.fixture(scope="module")
def text():
    some = [fleets.fleet(base(), {"replicas[0].count": n}) for n in (1, 2)]
    values = {"slo_attainment": [0.98, 0.99], "ttft_p99_s": [0.4, 0.5], "goodput": [3.0, 4.0]}
    played = [fake(values, who, each.world.name) for each in some for who in ("<a>", "b")]
    wanted = answer.objectives("slo=0.5")
    found = answer.rows(some, played, wanted)
    said = answer.answer(found, wanted)
    facts = sources(*(each.scenario for each in some))
    command = "gpuyard whatif <small>"
    return page("What if: <x>", command, found, wanted, said, answer.accuracy(some), facts)


@pytest.mark.parametrize("width", [1400, 500])  # headless windows are no narrower
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_opened(browser, tmp_path, text, width, scheme):  # noqa: F811
    path = tmp_path / "report.html"
    path.write_text(text.replace("</body>", f"{PROBE}</body>"), encoding="utf-8")
    preferred = f"--blink-settings=preferredColorScheme={'0' if scheme == 'dark' else '1'}"
    flags = [flag for flag in FLAGS if "window-size" not in flag]
    flags += [f"--window-size={width},900", preferred, f"--user-data-dir={tmp_path / 'profile'}"]
    command = [browser, *flags, "--dump-dom", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    found = Texts()
    found.feed(done.stdout)
    seen = found.texts["probe"]
    assert f'"wide":{width}' in seen and '"sticks_out":false' in seen and '"fetched":0' in seen
    assert f'"light":{"true" if scheme == "light" else "false"}' in seen
    assert '"circles":12' in seen and '"dots":true' in seen
    assert found.texts["answer"].startswith("AnswerCheapest fleet that meets slo_attainment >= 0.5")
    assert "<a>" in found.texts["fleets"] and "±" in found.texts["fleets"]
    assert "measured" in found.texts["sources"] and "Llama-3-8B" in found.texts["sources"]
