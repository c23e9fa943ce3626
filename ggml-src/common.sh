# Shared by vendor and build; sourced, with $here = ggml-src.

say() { printf '%s\n' "panama-llama: $*" >&2; }

need() {
    command -v "$1" >/dev/null || { echo "error: $1 is not installed; it is needed $2" >&2; exit 1; }
}

# Value of a key of upstream.properties.
pin() { sed -n "s/^$1=//p" "$here/upstream.properties"; }

# The folder that outlives checkouts; the Java loader uses the same rule.
cache_root() {
    if [ -n "${PANAMA_LLAMA_CACHE:-}" ]; then
        printf '%s' "$PANAMA_LLAMA_CACHE"
    elif [ -n "${XDG_CACHE_HOME:-}" ]; then
        printf '%s' "$XDG_CACHE_HOME/panama-llama"
    else
        case $(uname -s) in
            Darwin) printf '%s' "$HOME/Library/Caches/panama-llama" ;;
            MINGW* | MSYS* | CYGWIN*) printf '%s' "$(cygpath -u "${LOCALAPPDATA:-$HOME/AppData/Local}")/panama-llama" ;;
            *) printf '%s' "$HOME/.cache/panama-llama" ;;
        esac
    fi
}

# SHA-256 of standard input, hexadecimal.
digest() {
    if command -v sha256sum >/dev/null; then sha256sum | cut -d ' ' -f 1; else shasum -a 256 | cut -d ' ' -f 1; fi
}
