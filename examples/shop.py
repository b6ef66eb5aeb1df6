"""Sends a welcome mail to each new user.

Beside a running node (`make run`):

    streamtable worker examples/shop.py:app
"""

from pydantic import BaseModel

from streamtable import App, Change

app = App("shop")


class User(BaseModel):
    """An item of the table `users`."""

    id: str
    name: str
    email: str


@app.trigger("users", on="INSERT")
async def welcome(change: Change[User]) -> None:
    """Print the mail, where a real shop would send it."""
    user = change.new
    assert user is not None  # an INSERT always has the new item
    print(f"To: {user.email}\nSubject: Welcome, {user.name}!\n", flush=True)
