# shellcheck shell=bash
# Sourced by scripts that make environments: where they are kept, and the uv that makes them.
# Sets ROOT, CACHE and, after install_uv, UV_HOME (an environment with that uv and a pip).

ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd -P)
CACHE=${LOCKKEEPER_CACHE_DIR:-${ROOT}/.local/cache}
UV_HOME=''
BUILDING='' # what an interrupted run must take away

export UV_CACHE_DIR=${UV_CACHE_DIR:-${CACHE}/uv} PIP_CACHE_DIR=${PIP_CACHE_DIR:-${CACHE}/pip}

say() { printf '%s: %s\n' "$(basename -- "$0")" "$*" >&2; }

fail() {
    say "$*"
    exit 1
}

remove_unfinished() {
    [[ -z ${BUILDING} ]] || rm -rf -- "${BUILDING}"
}
trap remove_unfinished EXIT

# Make an empty folder beside the finished ones.
start_building() {
    mkdir -p -- "${CACHE}" && [[ -w ${CACHE} ]] || fail "${CACHE} cannot be written"
    # What killed runs left behind.
    find "${CACHE}" -maxdepth 1 -name '.building.*' -mtime +0 -exec rm -rf -- {} +
    BUILDING=$(mktemp -d "${CACHE}/.building.XXXXXX")
    chmod 0755 "${BUILDING}"
}

# Give what was built its name. Whoever comes second to a name throws an equal thing away.
publish() { # NAME
    mkdir -p -- "$(dirname -- "$1")"
    mv -T -- "${BUILDING}" "$1" 2>/dev/null || [[ -d $1 ]] || fail "could not write $1"
    remove_unfinished
    BUILDING=
}

# Install the uv that requirements.txt pins, with its hashes, unless it is there; set UV_HOME.
install_uv() { # PYTHON
    local pin version
    pin=$(awk '/^uv==/ {found = 1} found {print} found && !/\\$/ {exit}' "${ROOT}/requirements.txt")
    [[ ${pin} =~ ^uv==([^ ]+) ]] || fail "requirements.txt does not pin uv; compile it again with scripts/lock"
    version=${BASH_REMATCH[1]}
    UV_HOME=${CACHE}/uv-${version}
    # Python too: an environment whose interpreter has gone is none.
    if [[ ! -x ${UV_HOME}/bin/uv || ! -x ${UV_HOME}/bin/python ]]; then
        say "fetching uv ${version}"
        rm -rf -- "${UV_HOME}"
        start_building
        "$1" -m venv -- "${BUILDING}"
        # Twice quiet: errors, but no warnings about indexes that lack a package.
        "${BUILDING}/bin/python" -m pip --disable-pip-version-check install -qq --no-deps --require-hashes \
            --only-binary :all: -r <(printf '%s\n' "${pin}") >&2 ||
            fail "could not install uv ${version}: see pip's message above (network, PIP_INDEX_URL, room in ${CACHE})"
        publish "${UV_HOME}"
    fi
}

# Pass pip's index settings on to uv, which does not read them. Hashes are required wherever packages are
# installed, so a package can come from any index without coming from a stranger.
adopt_pip_settings() {
    local setting
    while IFS= read -r -d '' setting; do
        export "${setting?}"
    done < <("${UV_HOME}/bin/python" -m pip --disable-pip-version-check config list 2>/dev/null |
        "${UV_HOME}/bin/python" "${ROOT}/scripts/lib/pip_to_uv.py")
}
