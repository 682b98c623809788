"Package metadata, read from settings.ini."
from configparser import ConfigParser
from pathlib import Path

from setuptools import setup

config = ConfigParser(delimiters=["="], interpolation=None)
config.read(Path(__file__).parent / "settings.ini", encoding="utf-8")
settings = config["DEFAULT"]
extras = {name: settings[f"{name}_requirements"].split() for name in (
    "demo", "corpus", "audformat", "egemaps", "asr", "timeline", "cluster", "lab", "dev")}
extras["praat"] = settings["praat_optional"].split() # licensed under the GPL, so it is not in requirements.lock

setup(
    name=settings["lib_name"], version=settings["version"], description=settings["description"], license="Apache-2.0",
    author=settings["author"], packages=["merhan"], include_package_data=True, python_requires=f">={settings['min_python']},<{settings['before_python']}",
    install_requires=settings["requirements"].split(), extras_require=extras,
    entry_points={"console_scripts": settings["console_scripts"].split()},
    keywords=settings["keywords"], zip_safe=False,
)
