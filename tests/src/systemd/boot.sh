# Makes a root directory at $1, out of Debian's packages unpacked at $2 and what lies at $3, and becomes its systemd. In
# namespaces of its own: mounts, processes, control groups, host name, IPC and network. As of a privileged container, kernel
# settings are read-only: they are the machine's.
root=$1 debian=$2 own=$3

mount -t tmpfs -o mode=755 root "$root"
cd "$root"
mkdir dev etc old own proc run sys tmp usr var work
ln -s usr/bin bin
ln -s usr/bin sbin
ln -s usr/lib lib
ln -s usr/lib64 lib64
# What is added to /usr is not Debian's folder's.
mkdir own/usr
cp -a "$own/usr/." own/usr
mount -t overlay -o "lowerdir=$debian/usr,upperdir=own/usr,workdir=work" usr usr
cp -a "$own/etc/." etc

mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 run run
mount -t tmpfs tmp tmp
mount -t tmpfs -o mode=755 dev dev
mkdir dev/mqueue dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
mount -t mqueue mqueue dev/mqueue
mount -t tmpfs shm dev/shm
ln -s pts/ptmx dev/ptmx
for device in full null random tty urandom zero; do
    : >"dev/$device"
    mount --bind "/dev/$device" "dev/$device"
done

pivot_root . old
umount -l old
exec /usr/lib/systemd/systemd --show-status=no --log-target=journal --unit=multi-user.target
