"""What pyproject.toml cannot say: recipes and studies lie beside the package in a checkout, and in it once built."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class WithRecipes(build_py):
    """Copies them next to the modules (`sammit.shipped`)."""

    def run(self):
        super().run()
        if not self.editable_mode:
            for folder in ("recipes", "studies"):
                shutil.copytree(folder, Path(self.build_lib) / "sammit" / folder, dirs_exist_ok=True)


setup(cmdclass={"build_py": WithRecipes})
