# One squashfs for each layer, kept in the cache for the next time. Jobs that
# share the cache don't pack a layer twice: the second waits for the first.
# The caller sets `work`, `cache` (a directory) and COMPRESSION.

compression_options() {
    case $COMPRESSION in
    zstd) squash_options=(-comp zstd -Xcompression-level 6) ;; # 15 takes 10 times as long, for 4 % of size
    xz) squash_options=(-comp xz -b 1M) ;;
    none) squash_options=(-noI -noId -noD -noF -noX) ;;
    *) squash_options=(-comp "$COMPRESSION") ;;
    esac
}

# safe_name NAME prints NAME as it can stand in a file name of any system, and
# between the commas, colons and blanks of mount options.
safe_name() { printf %s "${1//[^A-Za-z0-9._@-]/_}"; }

# squash_layer LAYER PLACE packs /input/LAYER, unless the cache has it, and sets
# `squashed` to the file. PLACE, such as 1/2, is for progress.
squash_layer() {
    local layer=$1 place=$2 name lock
    # The times of the files are part of what is packed: SOURCE_DATE_EPOCH is
    # the latest that they can be.
    name=$(safe_name "$layer").$COMPRESSION${SOURCE_DATE_EPOCH+.$SOURCE_DATE_EPOCH}.squashfs
    squashed=$cache/$name
    exec {lock}>>"$cache/.$name.lock"
    if ! flock -n "$lock"; then
        say "packing $layer ($place): waiting for another job that does"
        flock "$lock"
    fi
    if [[ -s $squashed ]]; then
        say "packing $layer ($place): kept from before, $(size "$squashed")"
    else
        say "packing $layer ($place)…"
        mksquashfs "/input/$layer" "$squashed.part" -noappend -no-recovery -no-progress -quiet \
            -xattrs-exclude '^(trusted|system)\.' "${squash_options[@]}" >"$work/mksquashfs.log" 2>&1 ||
            die "mksquashfs failed on layer $layer: $(tail -n 5 "$work/mksquashfs.log")"
        sync -- "$squashed.part" # a name in the cache stands for a whole file, even after a crash
        mv -T -- "$squashed.part" "$squashed"
        say "packing $layer ($place): $(size "$squashed")"
    fi
    exec {lock}>&-
}
