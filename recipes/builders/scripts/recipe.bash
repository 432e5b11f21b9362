# What every recipe begins with: progress, errors, and options that are checked
# before any work starts. The script that sources it sets `recipe`, its name.
set -euo pipefail
shopt -s nullglob
umask 022
export LC_ALL=C

mistakes=()

say() { printf '%s\n' "$*"; }

die() {
    printf '%s: error: %s\n' "$recipe" "$*" >&2
    exit 1
}

# mistake TEXT notes what is wrong with the request; settle reports it, so that
# all that is wrong is said at once.
mistake() { mistakes+=("$*"); }

settle() {
    local text
    ((${#mistakes[@]} == 0)) && return
    for text in "${mistakes[@]}"; do
        printf '%s: error: %s\n' "$recipe" "$text" >&2
    done
    exit 1
}

# option_number NAME DEFAULT MIN MAX MEANING sets the variable NAME to what the
# environment says. An empty DEFAULT leaves an option that was not given empty.
option_number() {
    local name=$1 default=$2 min=$3 max=$4 meaning=$5
    if [[ -z ${!name+given} ]]; then
        printf -v "$name" %s "$default"
        return
    fi
    local given=${!name}
    if [[ $given =~ ^[0-9]{1,9}$ ]] && ((10#$given >= min && 10#$given <= max)); then
        printf -v "$name" %d "$((10#$given))"
    else
        mistake "$name is \"$given\"; it takes $meaning, a whole number from $min to $max"
    fi
}

# option_word NAME DEFAULT WORD... allows just the words.
option_word() {
    local name=$1 word
    printf -v "$name" %s "${!name-$2}"
    shift 2
    for word; do
        [[ ${!name} == "$word" ]] && return
    done
    local allowed
    printf -v allowed ', %s' "$@"
    mistake "$name is \"${!name}\"; it takes one of ${allowed:2}"
}

# option_line NAME allows any text of one line.
option_line() {
    local name=$1
    printf -v "$name" %s "${!name-}"
    if [[ ${!name} == *[[:cntrl:]]* ]]; then
        mistake "$name holds a line break or another control character; it takes one line of text"
    fi
}

# option_epoch checks SOURCE_DATE_EPOCH. The tools read it from the environment,
# where an empty value would count as a time to some of them.
option_epoch() {
    if [[ -z ${SOURCE_DATE_EPOCH-} ]]; then
        unset SOURCE_DATE_EPOCH
    elif [[ ! $SOURCE_DATE_EPOCH =~ ^[0-9]{1,10}$ ]]; then
        mistake "SOURCE_DATE_EPOCH is \"$SOURCE_DATE_EPOCH\"; it takes seconds since 1970, a whole number"
    fi
}

# size FILE prints how large a file is, for people.
size() { numfmt --to=iec --suffix=B --format=%.1f "$(stat -Lc %s -- "$1")"; }

# a_work_directory sets `work`, a directory on disk that goes with the script.
a_work_directory() {
    work=$(mktemp -d /tmp/"$recipe".XXXXXX)
    trap 'rm -rf -- "$work"' EXIT
}
