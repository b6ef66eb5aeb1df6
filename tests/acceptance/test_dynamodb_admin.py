"""dynamodb-admin, the console that people put before a local DynamoDB, in Chromium."""

import json
import re
from pathlib import Path

import pytest
from playwright.async_api import Page, async_playwright, expect

from tests.support.commands import Background, aws_environment, require
from tests.support.ports import free_port
from tests.support.waiting import wait_until

pytestmark = pytest.mark.acceptance

# Playwright's own limit of 5 s is for a machine that does nothing else.
expect.set_options(timeout=60_000)

PROGRAM = Path(__file__).parent / "js" / "node_modules" / "dynamodb-admin" / "dist"


@pytest.fixture
async def page():
    chromium = require("chromium", "apt install chromium to test with dynamodb-admin")
    async with async_playwright() as playwright:
        # In a container there are no user namespaces to make a sandbox of.
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        opened = await browser.new_page()
        opened.set_default_timeout(60_000)
        yield opened
        await browser.close()


@pytest.fixture
def admin(endpoint, tmp_path):
    node = require("node", "install Node.js 20 or newer to test with dynamodb-admin")
    if not PROGRAM.exists():
        pytest.skip("dynamodb-admin is not installed: make tools")
    port = free_port()
    command = [node, str(PROGRAM / "dynamodb-admin.js"), "--host", "127.0.0.1", "-p", str(port)]
    environment = aws_environment(endpoint) | {"DYNAMO_ENDPOINT": endpoint}
    with Background(command, tmp_path / "admin.log", env=environment) as running:
        running.wait_for(r"listening on")
        yield f"http://127.0.0.1:{port}"


async def test_the_form_for_tables_shows_the_service_s_refusal(admin, table_name, page: Page):
    # The form sends numbers as strings, which DynamoDB refuses, too.
    await page.goto(f"{admin}/create-table")
    await page.fill("#TableName", table_name)
    await page.fill("#HashAttributeName", "id")
    await page.select_option("[name=HashAttributeType]", "S")
    await page.click("#saveButton")
    await expect(page.locator("body")).to_contain_text("STRING_VALUE cannot be converted to Long")


async def test_items_and_indexes_by_hand(admin, client, table_name, page: Page):
    client.create_table(
        TableName=table_name,
        AttributeDefinitions=[
            {"AttributeName": "artist", "AttributeType": "S"},
            {"AttributeName": "year", "AttributeType": "N"},
            {"AttributeName": "genre", "AttributeType": "S"},
        ],
        KeySchema=[
            {"AttributeName": "artist", "KeyType": "HASH"},
            {"AttributeName": "year", "KeyType": "RANGE"},
        ],
        GlobalSecondaryIndexes=[
            {
                "IndexName": "by-genre",
                "KeySchema": [{"AttributeName": "genre", "KeyType": "HASH"}],
                "Projection": {"ProjectionType": "ALL"},
            }
        ],
        BillingMode="PAY_PER_REQUEST",
    )
    client.get_waiter("table_exists").wait(TableName=table_name, WaiterConfig={"Delay": 1})
    await page.goto(admin)
    await page.get_by_role("link", name=table_name).click()
    await page.get_by_role("link", name="Create item").click()
    item = {"artist": "Nina", "year": 1965, "genre": "soul", "live": True, "notes": ["a", 1]}
    await page.wait_for_function("() => typeof editor !== 'undefined'")
    await page.evaluate("text => editor.setValue(text)", json.dumps(item))
    await page.get_by_role("button", name="Save").click()
    await page.wait_for_url(re.compile("/items/"))
    key = {"artist": {"S": "Nina"}, "year": {"N": "1965"}}
    saved = client.get_item(TableName=table_name, Key=key, ConsistentRead=True)["Item"]
    assert saved["notes"] == {"L": [{"S": "a"}, {"N": "1"}]}

    for year in range(1900, 1930):
        bach = {"artist": {"S": "Bach"}, "year": {"N": str(year)}}
        client.put_item(TableName=table_name, Item=bach)
    rows = page.locator("#items-container tr")
    await page.goto(f"{admin}/tables/{table_name}")
    await expect(rows).to_have_count(25)
    await page.get_by_role("link", name="Next Page").click()
    await expect(rows).to_have_count(6)

    wait_until(
        lambda: client.scan(TableName=table_name, IndexName="by-genre")["Count"] == 1,
        "the index to follow",
    )
    await page.goto(f"{admin}/tables/{table_name}")
    await page.select_option("[name=queryableSelection]", "by-genre")
    await page.select_option("[name=operationType]", "query")
    await page.locator(".filter-row-value").last.fill("soul")
    await page.get_by_role("button", name="Search").click()
    await expect(rows).to_have_count(1)
    await page.get_by_role("link", name="View").click()
    await page.get_by_role("button", name="Delete").click()
    await page.wait_for_url(f"{admin}/tables/{table_name}")
    assert "Item" not in client.get_item(TableName=table_name, Key=key, ConsistentRead=True)

    await page.goto(f"{admin}/tables/{table_name}/meta")
    await expect(page.locator("main")).to_contain_text('"AttributeName": "genre"')
    await page.goto(f"{admin}/tables/{table_name}/ttl")
    await expect(page.locator("main")).to_contain_text("DISABLED")

    page.on("dialog", lambda dialog: dialog.accept())
    await page.goto(admin)
    await page.locator(f"[data-table-name={table_name}]").get_by_text("Delete").click()
    await expect(page.get_by_role("link", name=table_name)).to_have_count(0)
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.describe_table(TableName=table_name)
