# GRUB as files, without grub-install, which wants block devices: an image for
# BIOS, one for UEFI, and the menu that both read.

grub_lib=/usr/lib/grub

# The modules are linked into the images, so that nothing but the menu has to
# be found later.
grub_modules=(
    part_gpt part_msdos fat iso9660 ext2 search search_fs_file search_fs_uuid
    normal configfile linux boot test echo serial terminal halt reboot
)
grub_bios_modules=(biosdisk)
grub_uefi_modules=(all_video efi_gop efi_uga efifwsetup)

# grub_image FORMAT PREFIX EARLY OUTPUT makes the image of a FORMAT of
# grub-mkimage that runs the script EARLY, then the menu in PREFIX.
grub_image() {
    local format=$1 prefix=$2 early=$3 output=$4 modules=("${grub_modules[@]}")
    case $format in
    i386-pc*) modules+=("${grub_bios_modules[@]}") ;;
    *) modules+=("${grub_uefi_modules[@]}") ;;
    esac
    grub-mkimage -O "$format" -d "$grub_lib/${format%-eltorito}" -p "$prefix" -c "$early" -o "$output" "${modules[@]}"
}

# grub_quote TEXT prints TEXT as one word of a GRUB script.
grub_quote() { printf "'%s'" "${1//\'/\'\\\'\'}"; }

# grub_head TIMEOUT prints the beginning of a menu. UEFI firmware shows its
# console on the serial line already; under BIOS that is up to GRUB.
grub_head() {
    cat <<END
set default=0
set timeout=$1
if [ "\$grub_platform" = pc ]; then
    if serial --unit=0 --speed=115200; then
        terminal_input --append serial
        terminal_output --append serial
    fi
fi
END
}

# grub_entry TITLE KERNEL INITRD ARGS prints a menu entry.
grub_entry() {
    local title=$1 kernel=$2 initrd=$3 word words args=''
    read -ra words <<<"$4"
    for word in "${words[@]}"; do
        args+=" $(grub_quote "$word")"
    done
    cat <<END
menuentry $(grub_quote "$title") {
    linux $(grub_quote "$kernel")$args
    initrd $(grub_quote "$initrd")
}
END
}

# fat_image FILE OFFSET KIB SERIAL LABEL makes a FAT file system of KIB KiB in
# FILE at byte OFFSET, with EFI/BOOT/BOOTX64.EFI from the file LOADER.
fat_image() {
    local file=$1 offset=$2 kib=$3 serial=$4 label=$5 loader=$6
    [[ -z ${SOURCE_DATE_EPOCH-} ]] || touch -d "@$SOURCE_DATE_EPOCH" -- "$loader"
    mformat -i "$file@@$offset" -T $((kib * 2)) -h 16 -s 63 -N "$serial" -v "$label" ::
    mmd -i "$file@@$offset" ::EFI ::EFI/BOOT
    mcopy -m -i "$file@@$offset" "$loader" ::EFI/BOOT/BOOTX64.EFI
}

# grub_boot_sector FILE OFFSET CORE makes a disk image start the BIOS image CORE,
# which it puts at byte OFFSET: what grub-install does to a block device. Boot
# sector and core each hold the number of the sector to go on with.
grub_boot_sector() {
    local file=$1 offset=$2 core=$3
    patch_bytes "$core" 500 "$(little_endian $((offset / 512 + 1)) 8)"
    dd if="$core" of="$file" bs=512 seek=$((offset / 512)) conv=notrunc status=none
    # The partition table begins behind the code, at 440.
    dd if="$grub_lib/i386-pc/boot.img" of="$file" bs=440 count=1 conv=notrunc status=none
    patch_bytes "$file" 92 "$(little_endian $((offset / 512)) 8)"
    # Some firmware passes the number of a floppy for a hard disk: GRUB's own
    # check for that is jumped over unless these two bytes are no operation.
    patch_bytes "$file" 102 '\x90\x90'
}
