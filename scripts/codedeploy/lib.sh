# What every hook shares; sourced, with HOOKS_DIR set. Hooks may be killed and run again at any point.
# shellcheck shell=bash

# Nothing on a real host; the host's folder in the embedded AWS.
ROOT=${HOOKS_DIR:?is set by the hook}
ROOT=${ROOT%/opt/codedeploy-agent/*}

step() { printf -- '-----> %s\n' "$*"; }

fail() {
    printf ' !     %s\n' "$*" >&2
    exit 1
}

trap 'fail "${BASH_SOURCE[0]}:${LINENO}: ${BASH_COMMAND} failed (exit $?)"' ERR

# Become the deploy program; the logic is there, in Python's standard library.
deploy() { # EVENT
    local host="${ROOT}/etc/lockkeeper/host" python
    [[ ${ROOT} != "${HOOKS_DIR}" ]] || fail "this is a CodeDeploy hook: it runs below /opt/codedeploy-agent/"
    : "${DEPLOYMENT_ID:?is set by the CodeDeploy agent}"
    [[ -r ${host} ]] || fail "${host} cannot be read: prepare this host with scripts/provision-host"
    python=$(sed -n 's/^PYTHON=//p' "${host}")
    # With errexit the shell would end where it cannot become the program, and nobody would say why.
    set +e
    shopt -s execfail
    exec "${python:-/nowhere}" -I -B -S "${HOOKS_DIR}/deploy" "$1" --root "${ROOT:-/}" </dev/null ||
        fail "PYTHON=${python} in ${host} cannot be run; run scripts/provision-host again." \
            "Known cause: missing-interpreter (docs/hooks.md)"
}
