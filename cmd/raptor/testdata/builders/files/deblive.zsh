#!/usr/bin/env zsh
#
# deblive: the layers under /input become /output/debian-liveboot.iso
#
# On the disc, every target has a directory of its own, /live/<n>, which
# live-boot is pointed to by live-media-path=. In it are the squashfs files of
# the target's layers, numbered from the bottom of the stack to its top.

emulate -R zsh
setopt err_exit no_unset pipe_fail null_glob extended_glob typeset_silent

readonly ISO=/output/debian-liveboot.iso
readonly TMP=$(mktemp -d)
trap 'rm -rf $TMP' EXIT

fatal() { print -ru2 -- "deblive: $*"; exit 1 }

# ---------------------------------------------------------------- the input

[[ -r /input/raptor.json ]] || fatal "no /input/raptor.json"

typeset -a targets
targets=( ${(f)"$(jq -r '.targets[]' /input/raptor.json)"} )
(( $#targets )) || fatal "nothing to put on the disc"

layers_of() { jq -r --arg target "$1" '.layers[$target][]' /input/raptor.json }

# ------------------------------------------------- one squashfs for a layer

[[ -d /cache ]] && store=/cache || store=$TMP

squash() {
    local layer=$1 file=$store/$1.squashfs
    if [[ ! -e $file ]]; then
        print -r -- "==> packing $layer"
        # Packed beside, then renamed: a broken run leaves no broken file
        mksquashfs /input/$layer $file.$$ -comp zstd -Xcompression-level 3 -no-progress -quiet >/dev/null
        mv $file.$$ $file
    fi
}

# ------------------------------------------------------- the disc's content

typeset -a grafts
mkdir -p $TMP/disc/boot/grub

menu=$TMP/disc/boot/grub/grub.cfg
print -r -- "set timeout=${GRUB_TIMEOUT:-5}
insmod all_video
if serial --speed=115200; then
    terminal_input console serial
    terminal_output console serial
fi" > $menu

integer n=0 m
for target in $targets; do
    (( ++n ))
    m=0 vmlinuz= initrd=
    for layer in ${(f)"$(layers_of $target)"}; do
        squash $layer
        grafts+=( /live/$n/${(l:3::0:)$(( ++m ))}.squashfs=$store/$layer.squashfs )
        # The newest kernel of the topmost layer that has one (nOn: by number,
        # falling). Something deleted is a character device, not a plain file.
        for kernel in /input/$layer/boot/vmlinuz-*(.NnOn[1]); do
            ramdisk=${kernel/vmlinuz/initrd.img}
            [[ -f $ramdisk ]] && vmlinuz=$kernel initrd=$ramdisk
        done
    done
    [[ -n $vmlinuz ]] || fatal "$target: no kernel with an initrd in /boot of any layer"

    grafts+=( /boot/$n/vmlinuz=$vmlinuz /boot/$n/initrd=$initrd )
    title=${target//[^[:alnum:]._@-]/ }
    print -r -- "menuentry \"${title## #} (${vmlinuz:t})\" {
    linux /boot/$n/vmlinuz boot=live live-media-path=/live/$n console=tty0 console=ttyS0,115200
    initrd /boot/$n/initrd
}" >> $menu
    print -r -- "==> $target: $m layers, ${vmlinuz:t}"
done

# ---------------------------------------------------------------- boot images

print -r 'search --label --set=root DEBLIVE
configfile ($root)/boot/grub/grub.cfg' > $TMP/start.cfg

grub_parts=( part_gpt part_msdos iso9660 fat search search_label normal configfile linux serial terminal echo test )

standalone() {
    local format=$1 output=$2; shift 2
    grub-mkstandalone -O $format -o $output --fonts= --locales= --themes= \
        --install-modules="$grub_parts $*" --modules="$grub_parts $*" boot/grub/grub.cfg=$TMP/start.cfg
}

print -r -- "==> boot images"
standalone i386-pc $TMP/core.img biosdisk all_video
cat /usr/lib/grub/i386-pc/cdboot.img $TMP/core.img > $TMP/disc/boot/grub/eltorito.img

standalone x86_64-efi $TMP/bootx64.efi all_video efi_gop
truncate -s $(( $(stat -c %s $TMP/bootx64.efi) / 1048576 + 2 ))M $TMP/efi.img
mkfs.vfat -n DEBLIVE $TMP/efi.img >/dev/null
mmd -i $TMP/efi.img ::/EFI ::/EFI/BOOT
mcopy -i $TMP/efi.img $TMP/bootx64.efi ::/EFI/BOOT/BOOTX64.EFI

# ------------------------------------------------------------------- the disc

print -r -- "==> $ISO"
xorriso -as mkisofs -quiet -r -V DEBLIVE -iso-level 3 -o $ISO \
    -b boot/grub/eltorito.img -no-emul-boot -boot-load-size 4 -boot-info-table \
    --grub2-boot-info --grub2-mbr /usr/lib/grub/i386-pc/boot_hybrid.img \
    -eltorito-alt-boot -e --interval:appended_partition_2:all:: -no-emul-boot \
    -append_partition 2 0xef $TMP/efi.img \
    -graft-points $TMP/disc $grafts
