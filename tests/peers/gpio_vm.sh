#!/bin/sh
# Runs the tests of single wires on GPIO chips of a real kernel, in a small virtual machine.
#
#   sh tests/peers/gpio_vm.sh FOLDER
#
# FOLDER keeps what is downloaded and built. Debian 12, as root: apt-get install qemu-system-x86 busybox-static cpio kmod
# make gcc xz-utils linux-headers-6.1.0-57-amd64 (or set KERNEL to the version of the headers that are installed).
#
# Debian's kernels are built without gpio-sim, so it is built here from the kernel's own source, together with the
# simulated interrupts it needs (kernel/irq/irq_sim.c). That file calls one function that modules may not call; the
# exported function that does the same is put in its place. Nothing else is changed. The machine's root folder is
# this one's, read-only.
#
# Shown on Linux 6.1: the driver's edges, their times and levels on the kernel's character device, and the link on one.
# Whole games (GAMES=1) are left out unless asked for: on an emulated processor the wires, which a program carries from
# chip to chip, and the programs at their ends take so long that a game is seldom played to its end. Both good games
# were once, ten parts each with no promise broken, and once the late one. Other tries stalled or failed, not all of them
# explained; where looked at, edges of one moment came 2 to 3 ms apart, more than plc-sim takes for one.
set -eu

kernel=${KERNEL:-6.1.0-57-amd64}
root=$(cd "$(dirname "$0")/../.." && pwd)
tests='-k "not kernels_wires"'
[ "${GAMES:-}" != 1 ] || tests=
folder=$(mkdir -p "$1" && cd "$1" && pwd)

cd "$folder"
[ -d image ] || { apt-get download "linux-image-$kernel" && dpkg-deb -x linux-image-"$kernel"_*.deb image; }
if [ ! -f module/wiresim.ko ]; then
    apt-get download linux-source-6.1
    mkdir -p module
    dpkg-deb --fsys-tarfile linux-source-6.1_*.deb | tar -xO ./usr/src/linux-source-6.1.tar.xz |
        tar -xJ -C module --transform 's,.*/,,' linux-source-6.1/drivers/gpio/gpio-sim.c \
            linux-source-6.1/drivers/gpio/gpiolib.h linux-source-6.1/kernel/irq/irq_sim.c
    sed -i 's/handle_simple_irq(irq_to_desc(irqnum))/generic_handle_irq(irqnum)/' module/irq_sim.c
    printf 'obj-m := wiresim.o\nwiresim-y := gpio-sim.o irq_sim.o\n' > module/Makefile
    make -s -C "/lib/modules/$kernel/build" M="$PWD/module" modules
fi

rm -rf initrd
mkdir -p initrd/bin initrd/host
cp /bin/busybox initrd/bin/
depmod -b image "$kernel"
for module in virtio_pci 9pnet_virtio 9p overlay configfs; do
    modprobe -d "$PWD/image" -S "$kernel" --show-depends "$module" | awk '$1 == "insmod" { print $2 }'
done | awk '!seen[$0]++' > modules
number=100
while read -r file; do
    cp "$file" "initrd/$number.ko"
    number=$((number + 1))
done < modules
cp module/wiresim.ko initrd/999.ko
cat > initrd/init <<INIT
#!/bin/busybox sh
busybox mkdir -p /proc /sys
busybox mount -t proc none /proc
busybox mount -t sysfs none /sys
for module in /*.ko; do busybox insmod \$module; done
busybox mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=262144,cache=loose root /host
busybox mount -t devtmpfs none /host/dev
busybox mount -t proc none /host/proc
busybox mount -t sysfs none /host/sys
busybox mount -t configfs none /host/sys/kernel/config
busybox mount -t tmpfs none /host/tmp
busybox ip link set lo up
cd /host
busybox chroot /host /bin/sh -c 'cd $root && HOME=/tmp PYTHONDONTWRITEBYTECODE=1 .venv/bin/python -m pytest --color=no -p no:cacheprovider \
    -v -rs $tests tests/peers/test_gpio_kernel.py tests/runtime/links/test_digital.py; echo "exit code \$?"'
busybox poweroff -f
INIT
chmod +x initrd/init
(cd initrd && find . | cpio -o -H newc --quiet | gzip) > initrd.gz

# Nested virtualisation is not to be relied on: KVM=1 asks for it, else every instruction is emulated (minutes).
[ "${KVM:-}" = 1 ] && fast="-enable-kvm -cpu host" || fast="-cpu max -accel tcg,thread=multi"
# shellcheck disable=SC2086  # two words
timeout 1500 qemu-system-x86_64 $fast -smp 2 -m 3072 -nographic -no-reboot -net none \
    -kernel "image/boot/vmlinuz-$kernel" -initrd initrd.gz -append "console=ttyS0 quiet panic=-1" \
    -virtfs local,path=/,mount_tag=root,security_model=none,readonly=on,multidevs=remap | tee log
grep -q "exit code 0" log
