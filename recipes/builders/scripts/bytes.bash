# Numbers in the middle of files.

# little_endian NUMBER BYTES prints a number as patch_bytes takes it.
little_endian() {
    local number=$1 bytes=$2
    while ((bytes-- > 0)); do
        printf '\\x%02x' $((number & 255))
        ((number >>= 8)) || true
    done
}

# patch_bytes FILE OFFSET ESCAPED writes bytes, given as \x.. each, into FILE.
patch_bytes() { printf "$3" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none; }

# hex_at FILE OFFSET BYTES prints bytes of a file as hex digits.
hex_at() { od -A n -v -t x1 -j "$2" -N "$3" -- "$1" | tr -d ' \n'; }

# number_at FILE OFFSET BYTES prints a number that little_endian has written.
number_at() { printf %d "0x$(hex_at "$@" | sed 's/../&\n/g' | tac | tr -d '\n')"; }
