# Disk images in other formats than raw, by qemu-img. It gives each a random
# identity, in the place of which comes one that the caller derives.

disk_formats=(raw qcow2 vmdk vdi vhdx)

# convert_disk RAW FORMAT OUTPUT NAME IDENTITY makes OUTPUT of the disk image
# RAW. Some formats hold the file's own NAME. IDENTITY is 64 hex digits.
convert_disk() {
    local raw=$1 format=$2 output=$3 name=$4 identity=$5
    qemu-img convert -f raw -O "$format" "$raw" "$output" >"$work/qemu-img.log" 2>&1 ||
        die "qemu-img failed: $(tail -n 5 "$work/qemu-img.log")"
    case $format in
    vmdk) identify_vmdk "$output" "$name" "$identity" ;;
    vdi) identify_vdi "$output" "$identity" ;;
    vhdx) identify_vhdx "$output" "$identity" ;;
    esac
}

# identify_vmdk: text in 20 sectors from the second on, with the identity of the
# content and the name of the file.
identify_vmdk() {
    local file=$1 name=${2//[^A-Za-z0-9._ -]/_} identity=$3 text=$work/vmdk.text
    dd if="$file" bs=512 skip=1 count=20 status=none | tr -d '\0' |
        sed "s/^CID=.*/CID=${identity:0:8}/; s/^\(RW .* SPARSE\) \".*\"/\1 \"$name\"/" >"$text"
    truncate -s $((20 * 512)) "$text"
    dd if="$text" of="$file" bs=512 seek=1 conv=notrunc status=none
}

# identify_vdi: the UUIDs of the image and of its last snapshot.
identify_vdi() {
    patch_bytes "$1" 392 "$(guid "${2:0:32}")"
    patch_bytes "$1" 408 "$(guid "${2:32:32}")"
}

# identify_vhdx: GUIDs of the last writes in both headers, which are numbered and
# have checksums, and one that a guest sees as the disk's. What is left of a log that no header
# refers to goes as well, as its entries have the same GUIDs.
identify_vhdx() {
    local file=$1 identity=$2 at log_at log_length
    for at in $((64 * 1024)) $((128 * 1024)); do
        [[ $(hex_at "$file" $((at + 48)) 16) =~ ^0+$ ]] || die "qemu-img left a log in the VHDX image"
        patch_bytes "$file" $((at + 8)) "$(little_endian $((at / 65536)) 8)"
        patch_bytes "$file" $((at + 16)) "$(guid "${identity:0:32}")$(guid "${identity:32:32}")"
        patch_bytes "$file" $((at + 4)) '\0\0\0\0'
        patch_bytes "$file" $((at + 4)) "$(little_endian "$(crc32c "$file" "$at" 4096)" 4)"
        log_length=$(number_at "$file" $((at + 68)) 4)
        log_at=$(number_at "$file" $((at + 72)) 8)
    done
    fallocate --zero-range --keep-size --offset "$log_at" --length "$log_length" "$file" 2>/dev/null ||
        dd if=/dev/zero of="$file" bs=4096 seek=$((log_at / 4096)) count=$((log_length / 4096)) conv=notrunc status=none
    patch_bytes "$file" "$(vhdx_disk_id "$file")" "$(guid "${identity:16:32}")"
}

# vhdx_disk_id FILE prints where the disk's own GUID stands: in the metadata, by
# way of the table of regions and the table of what the metadata holds.
vhdx_disk_id() {
    local file=$1 entry region=$((192 * 1024))
    local metadata=06a27c8b90479a4bb8fe575f050f886e disk_id=ab12cabee6b22345 # 93ef-c309e000c746
    for ((entry = region + 16; entry < region + 16 + 32 * $(number_at "$file" $((region + 8)) 4); entry += 32)); do
        [[ $(hex_at "$file" "$entry" 16) == "$metadata" ]] || continue
        region=$(number_at "$file" $((entry + 16)) 8)
        for ((entry = region + 32; entry < region + 32 + 32 * $(number_at "$file" $((region + 10)) 2); entry += 32)); do
            [[ $(hex_at "$file" "$entry" 8) == "$disk_id" ]] || continue
            printf %d $((region + $(number_at "$file" $((entry + 16)) 4)))
            return
        done
    done
    die "qemu-img made a VHDX image without an identity"
}

# guid HEX prints 32 hex digits as patch_bytes takes them.
guid() { sed 's/../\\x&/g' <<<"$1"; }

# crc32c FILE OFFSET BYTES prints the checksum of a stretch of a file.
crc32c() {
    local crc=$((0xffffffff)) byte bit table=()
    for ((byte = 0; byte < 256; byte++)); do
        table[byte]=$byte
        for ((bit = 0; bit < 8; bit++)); do
            ((table[byte] = table[byte] >> 1 ^ (table[byte] & 1 ? 0x82f63b78 : 0))) || true
        done
    done
    for byte in $(hex_at "$@" | sed 's/../0x& /g'); do
        ((crc = crc >> 8 ^ table[(crc ^ byte) & 255])) || true
    done
    printf %d $((crc ^ 0xffffffff))
}
