# Reading a `MOUNT --overlay`: /input is the sum of a target's layers. What is
# made of it goes by way of a tar, which keeps what a file system would want to
# know and can be told what to leave out, in an order that is always the same.

# tree_tar DIR ARGUMENT... prints a tar of what is in DIR: owners as numbers,
# hard links, extended attributes and capabilities. No time in it is later than
# SOURCE_DATE_EPOCH. The ARGUMENTs are GNU tar's: "." is all of DIR.
tree_tar() {
    local dir=$1 times=()
    shift
    [[ -z ${SOURCE_DATE_EPOCH-} ]] || times=(--mtime="@$SOURCE_DATE_EPOCH" --clamp-mtime)
    # The names of extended headers hold tar's process id by default, and the
    # headers the times of the last access and change, which nobody can keep.
    tar --create --file=- --sort=name --numeric-owner "${times[@]}" \
        --format=posix --pax-option='exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime' \
        --xattrs --xattrs-include='*' --acls \
        --directory="$dir" --anchored --wildcards --warning=no-file-ignored "$@"
}

# tree_list DIR prints a line for each file of DIR, leaving out what find's
# expression after it says: type, inode, bytes, links, mode, owner, time, name.
tree_list() {
    local dir=$1
    shift
    # A name may hold a line break, but no zero byte.
    find "$dir" -mindepth 1 "$@" -printf '%y %D:%i %s %n %m %U:%G %Ts %P\0' | tr '\n\0' ' \n'
}

# tree_needs LIST sets `needs_bytes`, what an ext4 file system of 4 KiB blocks
# keeps for the files of a tree_list, and `needs_inodes`.
tree_needs() {
    local numbers
    numbers=$(awk '
        $4 > 1 && $1 != "d" && linked[$2]++ { entry(); next }
        { inodes++; entry() }
        $1 == "d" { blocks++ }
        $1 == "f" { blocks += int(($3 + 4095) / 4096) + int($3 / (128 * 1048576)) }
        $1 == "l" && $3 >= 60 { blocks++ }
        function entry(    name) {
            name = $0
            sub(/.*\//, "", name)
            entries += 12 + length(name)
        }
        END { printf "%.0f %d", (blocks + int(entries * 1.1 / 4096) + 1) * 4096, inodes }' "$1")
    read -r needs_bytes needs_inodes <<<"$numbers"
}

# tree_has PATH: is there such a file, or a symlink of that name, in /input?
tree_has() { [[ -e /input/$1 || -L /input/$1 ]]; }
