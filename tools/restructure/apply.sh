#!/bin/bash
# apply.sh, copied out of the tree and called in a clean worktree that has a .venv: back to main, then the script and what
# follows it. Throws away what is not committed.
tools=$(cd "$(dirname "$0")" && pwd)
git reset -q --hard main; git clean -fdq
.venv/bin/python "$tools"/restructure.py 2>&1 | tail -30 || exit 1
for _ in 1 2; do .venv/bin/ruff check --fix -q | tail -40; .venv/bin/ruff format -q; done
.venv/bin/python -m tests.documentation.pages
git add -A
.venv/bin/python "$tools"/after.py; git add -A
