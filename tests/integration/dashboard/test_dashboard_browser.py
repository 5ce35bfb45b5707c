"""The dashboard in Debian's Chromium: each page, by mouse and by keyboard, with hostile text, narrow, and dark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.integration.dashboard.site import a_page, a_site, call, hostile_process
from tests.integration.sidecar.mesh import OTHER, A, B

PAGES = ("Mesh", "Identities", "Connections", "Denials", "Policies", "Trust", "Learn", "Processes")
TOKEN = "a-token-of-the-test-0123456789"  # noqa: S105  # it opens nothing else
HOSTILE = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>\';"javascript:hacked()//'


async def opened(page: Page, name: str) -> None:
    await page.get_by_role("navigation", name="Pages").get_by_role("link", name=name, exact=True).click()
    await expect(page.get_by_role("heading", level=1, name=name, exact=True)).to_be_visible()
    await page.wait_for_selector(f"#view[data-ready={name.lower()}]")


async def test_each_page_is_clicked_through(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site, a_page(site) as page:
        line = await call(site.a)
        refused = await call(site.x)
        await expect(page.get_by_role("heading", level=1)).to_have_text("Mesh")
        await expect(page.get_by_role("status").first).to_have_text("live")
        row = page.get_by_role("row").filter(has_text=str(OTHER))
        await expect(row).to_contain_text("denied")
        await page.get_by_role("button", name=str(A), exact=True).click()
        await expect(page.get_by_role("heading", name="Workload")).to_be_visible()
        await page.get_by_role("button", name="Its connections").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Connections")
        await page.get_by_role("button", name=f"Explain connection {line['connection_id']}").click()
        story = page.get_by_role("region", name=f"Connection {line['connection_id']}")
        await expect(story.locator("pre").first).to_contain_text("cause:   OK")
        await story.get_by_role("button", name="Its handshake").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Learn")
        await expect(page.get_by_role("heading", level=3)).to_have_count(10)
        await page.get_by_text("What is in ClientHello").click()
        await expect(page.get_by_text("supported_versions", exact=True).first).to_be_visible()
        await opened(page, "Connections")
        await page.get_by_label("Verdict").select_option("denied")
        await expect(page.get_by_role("table")).to_contain_text(refused["connection_id"])
        await expect(page.get_by_role("table")).not_to_contain_text(line["connection_id"])
        await page.get_by_label("Find an ID").fill("nobody is called so")
        await expect(page.get_by_text("none that fits")).to_be_visible()
        await opened(page, "Denials")
        await expect(page.get_by_role("heading", level=3)).to_contain_text("POLICY_DENIED")
        await expect(page.get_by_role("main")).to_contain_text(f"allowed: {A}")
        await page.get_by_role("button", name="Explain the newest").click()
        await expect(page.locator("#story pre").first).to_contain_text("unknown_ca, sent by the server")
        await opened(page, "Identities")
        await expect(page.get_by_role("progressbar")).to_have_count(3)
        await page.get_by_text("Path to the root").first.click()
        await expect(page.locator("ol.path").first).to_contain_text("root")
        await opened(page, "Policies")
        await expect(page.get_by_role("main")).to_contain_text(str(B))
        await opened(page, "Trust")
        await expect(page.get_by_text("processes hold the same authorities").first).to_be_visible()
        await opened(page, "Processes")
        await expect(page.get_by_text("3 processes, all answer")).to_be_visible()
        await expect(page.get_by_text("This dashboard changes nothing")).to_be_visible()


async def test_a_page_changes_by_itself_when_the_mesh_does(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site, a_page(site) as page:
        await opened(page, "Denials")
        await expect(page.get_by_text("Nothing was denied.")).to_be_visible()
        await call(site.x)
        await expect(page.get_by_role("heading", level=3)).to_contain_text("POLICY_DENIED")


async def test_hostile_text_stays_text_on_every_page(tmp_path: Path) -> None:
    async with (
        hostile_process(tmp_path / "hostile.sock", HOSTILE),
        a_site(tmp_path, more=[tmp_path / "hostile.sock"]) as site,
    ):
        await site.shows("denials", lambda view: view["denials"])
        await site.shows("identities", lambda view: len(view["identities"]) == 4)
        async with a_page(site) as page:
            for name in PAGES:
                await opened(page, name)
                await expect(page.get_by_role("main")).to_contain_text(HOSTILE)
                assert await page.evaluate("window.hacked") is None
                assert await page.locator("main img, main script, main a[href^='javascript']").count() == 0
            await opened(page, "Connections")
            await page.get_by_role("button", name="Explain connection").first.click()
            await expect(page.locator("#story pre").first).to_contain_text(HOSTILE)
            assert await page.evaluate("window.hacked") is None


async def test_text_that_is_set_as_html_would_be_refused(tmp_path: Path) -> None:
    """The twin of the test above: the browser enforces the policy that it relies on."""
    async with a_site(tmp_path) as site, a_page(site, wanted="TrustedHTML") as page:
        await opened(page, "Mesh")
        said = await page.evaluate(
            "() => { try { document.body.innerHTML = '<b>x</b>'; return 'set'; } catch (error) { return error.name; } }"
        )
        assert said == "TypeError"


async def test_the_dashboard_is_used_by_keyboard_alone(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site, a_page(site) as page:
        line = await call(site.a)
        await page.wait_for_selector("#view[data-ready=mesh]")
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        for _ in range(3):
            await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name="Connections")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.locator("#content")).to_be_focused()
        explain = page.get_by_role("button", name=f"Explain connection {line['connection_id']}")
        await explain.focus()
        await call(site.a)
        await expect(page.get_by_role("button", name="Explain connection")).to_have_count(2)
        await expect(explain).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.locator("#told")).to_contain_text("The story of connection")


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("dark", 360), ("light", 360)])
async def test_each_page_has_landmarks_contrast_and_no_sideways_scroll(tmp_path: Path, scheme: str, width: int) -> None:
    options: dict[str, Any] = {
        "color_scheme": scheme,
        "viewport": {"width": width, "height": 800},
        "reduced_motion": "reduce",
    }
    async with a_site(tmp_path) as site, a_page(site, **options) as page:
        await call(site.a)
        await call(site.x)
        for name in PAGES:
            await opened(page, name)
            assert await page.get_by_role("main").count() == await page.get_by_role("banner").count() == 1
            for table in await page.get_by_role("table").all():
                assert await table.locator("caption").count() == 1
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
            poor = await page.evaluate(CONTRAST)
            assert poor == [], name


#: Every text whose contrast with what is behind it is below 4.5 (WCAG 2.2, criterion 1.4.3).
CONTRAST = """() => {
  const parts = (color) => (color.match(/[\\d.]+/g) || []).map(Number);
  const light = (color) => {
    const [r, g, b] = parts(color).slice(0, 3).map((one) => {
      const part = one / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const color = parts(getComputedStyle(at).backgroundColor);
      if (color.length === 3 || color[3] > 0) return getComputedStyle(at).backgroundColor;
    }
    return "rgb(255, 255, 255)";
  };
  const poor = [];
  for (const node of document.querySelectorAll("body *:not(option):not(svg *):not(:disabled)")) {
    const own = [...node.childNodes].some((one) => one.nodeType === 3 && one.textContent.trim());
    if (!own || !node.checkVisibility()) continue;
    const [a, b] = [light(getComputedStyle(node).color), light(behind(node))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) poor.push(`${node.tagName} ${node.textContent.slice(0, 40)}`);
  }
  return poor;
}"""


async def test_a_process_is_drained_with_the_token_alone(tmp_path: Path) -> None:
    async with a_site(tmp_path, token=TOKEN) as site, a_page(site) as page:
        page.on("dialog", lambda dialog: dialog.accept())
        await opened(page, "Processes")
        await page.locator("select[data-key=process]").select_option(str(tmp_path / "b.sock"))
        await page.get_by_label("Token").fill(TOKEN)
        await page.get_by_role("button", name="Drain").click()
        await expect(page.get_by_text("done: draining")).to_be_visible()
        await expect(page.get_by_role("row").filter(has_text=str(B))).to_contain_text("not ready")
