# Reading a `MOUNT --layers`: /input/raptor.json and one directory for each
# layer. What a target consists of is the sum of its layers, the later over the
# earlier, in which a character device 0/0 deletes.

targets=()         # names, as given, in order
declare -A stack   # target number -> its layers, lowest first, one a line
layers=()          # all distinct layers, in the order of first use

# read_layers fills them from /input/raptor.json.
read_layers() {
    local index=/input/raptor.json number layer
    local -A seen=()
    [[ -f $index ]] || die "the input has no raptor.json: it is not mounted as layers"
    mapfile -t targets < <(jq -r '.targets[]' "$index")
    ((${#targets[@]} > 0)) || die "no target given as input"
    for number in "${!targets[@]}"; do
        stack[$number]=$(jq -r --argjson n "$number" '.layers[.targets[$n]][]' "$index")
        while IFS= read -r layer; do
            [[ -d /input/$layer ]] || die "layer $layer of ${targets[number]} is not mounted below /input"
            [[ -n ${seen[$layer]-} ]] || layers+=("$layer")
            seen[$layer]=1
        done <<<"${stack[$number]}"
    done
}

# deleted FILE: is it a whiteout?
deleted() { [[ -c $1 && $(stat -c %Hr,%Lr -- "$1") == 0,0 ]]; }

# find_in_target NUMBER DIR GLOB fills the map `found`: the name of each file in
# DIR that matches GLOB -> the layer that it comes from.
find_in_target() {
    local number=$1 dir=$2 glob=$3 layer file part path
    declare -gA found=()
    while IFS= read -r layer; do
        path=/input/$layer
        for part in ${dir//\// }; do
            path+=/$part
            if [[ -L $path ]] || [[ -e $path && ! -d $path ]]; then
                found=() # deleted, or no directory any more
            fi
            [[ -d $path && ! -L $path ]] || continue 2
        done
        for file in "$path"/$glob; do
            if deleted "$file"; then
                unset "found[${file##*/}]"
            else
                found[${file##*/}]=$layer
            fi
        done
    done <<<"${stack[$number]}"
}

# find_kernel NUMBER sets `version`, `kernel` and `initrd` of the newest kernel
# of a target that has an initrd, or notes what the target lacks.
find_kernel() {
    local number=$1 target=${targets[$1]} name
    local -A kernels=()
    version='' kernel='' initrd=''
    find_in_target "$number" boot 'vmlinuz-*'
    for name in "${!found[@]}"; do
        kernels[${name#vmlinuz-}]=/input/${found[$name]}/boot/$name
    done
    if ((${#kernels[@]} == 0)); then
        mistake "$target has no kernel (no /boot/vmlinuz-*): install the package linux-image-amd64 in it"
        return
    fi
    find_in_target "$number" boot 'initrd.img-*'
    for name in $(printf '%s\n' "${!found[@]}" | sort -V); do
        [[ -n ${kernels[${name#initrd.img-}]-} ]] || continue
        version=${name#initrd.img-}
        kernel=${kernels[$version]}
        initrd=/input/${found[$name]}/boot/$name
    done
    if [[ -z $version ]]; then
        mistake "$target has a kernel but no initrd for it (no /boot/initrd.img-*): install the packages initramfs-tools and linux-image-amd64 in it"
    elif [[ ! $version =~ ^[A-Za-z0-9.+~_-]+$ ]]; then
        mistake "$target has a kernel with an unusable version in its name: \"$version\""
    fi
}

# need_live_boot NUMBER notes when the target can't start as a live system.
need_live_boot() {
    find_in_target "$1" usr/share/initramfs-tools/scripts live
    ((${#found[@]} > 0)) || mistake "${targets[$1]} has no live-boot: install the package live-boot in it"
}
