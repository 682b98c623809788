"The table of licences is that of the lock, and says something of every package."

import re
from configparser import ConfigParser

from conftest import ROOT

from merhan.licences import licences_text, locked, packages


def test_the_page_is_current():
    assert (ROOT / "LICENCES.md").read_text("utf-8") == licences_text(), "run merhan licences"


def test_every_package_of_the_lock_has_a_known_licence():
    table = packages()
    assert set(table.package) == set(locked())
    assert not len(table[table.kind == "unknown"]), table[table.kind == "unknown"]


def test_what_the_package_itself_needs_is_not_under_the_gpl():
    settings = ConfigParser(delimiters=["="], interpolation=None)
    settings.read(ROOT / "settings.ini", encoding="utf-8")
    needed = {re.match(r"[\w-]+", word)[0].lower() for word in settings["DEFAULT"]["requirements"].split()}
    kinds = packages().set_index("package").kind
    assert needed <= set(kinds.index) | {"pyyaml"}, needed - set(kinds.index)
    assert not [name for name in needed & set(kinds.index) if kinds[name] == "copyleft"]
