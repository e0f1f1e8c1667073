# To be sourced: makes a virtual environment at the root of the repository with what pyproject.toml asks for.
#
#   source scripts/bootstrap.sh && bootstrap [extras] [folder]     for example: bootstrap test,data .venv-3.12
#
# The folder is .venv by default. PYTHON names the Python to make it with. Silent when there is nothing to do.
# Afterwards the environment is active: its programs come first in PATH.

barnraise_root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"

_fail() { # problem, fix
    printf 'error: %s\n  → %s\n' "$1" "$2" >&2
    exit 3
}

_find_python() { # prints a Python that is new enough
    local candidate
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.10}; do
        # Run it: a version manager's shim can exist without the Python behind it.
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    _fail "no Python 3.10 or newer found (looked for: ${PYTHON:-python3, python3.10 to python3.13})." \
        "Install one from your system's packages or python.org, or name it: PYTHON=/path/to/python3 $0"
}

_make_venv() { # folder
    local python version
    python="$(_find_python)" || exit "$?"
    version="$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        _fail "Python $version ($python) comes without venv and pip." \
            "On Debian or Ubuntu: sudo apt install python3-venv (or python$version-venv). Then run this again."
    "$python" -m venv --clear "$1" ||
        _fail "Python $version could not make $1 in $barnraise_root." "The lines above say why."
}

_install() { # extras, folder
    local venv="$2" log="$2/install.log" started=$SECONDS status=0 pip reported=0
    "$venv/bin/python" -m pip install --disable-pip-version-check --no-input \
        -c constraints.txt -e ".${1:+[$1]}" >"$log" 2>&1 &
    pip=$!
    trap 'kill "$pip" 2>/dev/null; exit 130' INT TERM
    [[ -t 2 ]] || echo "Installing Barnraise into $venv: some minutes the first time ..." >&2
    while kill -0 "$pip" 2>/dev/null; do
        if [[ -t 2 ]]; then
            printf '\rInstalling Barnraise into %s: some minutes the first time ... %d s ' \
                "$venv" "$((SECONDS - started))" >&2
        elif ((SECONDS - started >= reported + 60)); then
            reported=$((SECONDS - started))
            echo "  still installing after $reported s" >&2
        fi
        sleep 0.5
    done
    wait "$pip" || status=$?
    trap - INT TERM
    if [[ -t 2 ]]; then printf '\r\033[K' >&2; fi
    if ((status != 0)); then
        tail -n 25 "$log" >&2
        _fail "pip could not install Barnraise (the end of its log is above, all of it in $log)." \
            "Check the connection and the free disk space (about 8 GB), then run this again: pip's cache keeps the downloads."
    fi
    echo "Installed Barnraise into $venv in $((SECONDS - started)) s." >&2
}

bootstrap() { # extras, folder
    local extras="${1:-}" venv="${2:-.venv}" inputs stamp
    cd "$barnraise_root" || exit
    # The environment is made again when its Python is gone, or when the repository was moved or copied: its
    # programs name it by its full path.
    if ! "$venv/bin/python" -c '' 2>/dev/null || ! grep -qsF "$barnraise_root/$venv" "$venv/bin/activate"; then
        _make_venv "$venv"
    fi
    inputs="$(cat pyproject.toml constraints.txt | cksum | tr ' ' -)"
    stamp="$venv/.installed-$inputs"
    compgen -G "$stamp-*" >/dev/null || rm -f "$venv"/.installed-*
    # An install with extras also serves a caller that asks for none.
    if [[ ! -e "$stamp-$extras" ]] && { [[ -n "$extras" ]] || ! compgen -G "$stamp-*" >/dev/null; }; then
        _install "$extras" "$venv"
        touch "$stamp-$extras"
    fi
    export VIRTUAL_ENV="$barnraise_root/$venv" PATH="$barnraise_root/$venv/bin:$PATH"
    unset PYTHONHOME
}
