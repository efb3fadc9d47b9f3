# SPDX-License-Identifier: Apache-2.0
"""What cases share inside of the test host: devices and drivers, guests that take devices without
atolld, the machine around, and atolld itself."""
import glob
import os
import shutil
import subprocess
import sys
import time

os.environ["ATOLL_BUILD"] = "/testhost/build"
os.environ["ATOLL_POLL_S"] = "0.4"  # to look is expensive without KVM: it slows down what is waited for
sys.path.insert(0, "/testhost/tests/lib")
from site_lib import Failed, Site, check, wait_until  # noqa: E402,F401

OUT = "/testhost/out"
TINY_ELF = "/testhost/guest/tiny.elf"
TINY_DISK = "/testhost/guest/tiny.raw"
TINY_DONE = 33  # the status of QEMU when the tiny guest has left
PCI = "/sys/bus/pci/devices"
QEMU = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none",
        "-machine", "q35", "-accel", "tcg", "-m", "64"]

# Functions of the test host: the table in ../README.md.
EDU = "0000:00:04.0"            # no reset
EDU_OF_PAIR = "0000:00:05.0"    # in one group with AUDIO_OF_PAIR
AUDIO_OF_PAIR = "0000:00:05.1"
NIC = "0000:00:06.0"            # e1000e
EDU_HOT = "0000:01:00.0"        # can be pulled: pull("hot")
IGB = "0000:02:00.0"
IGB_VFS = [f"0000:02:10.{2 * i}" for i in range(4)] + [f"0000:02:11.{2 * i}" for i in range(4)]
NVME = "0000:03:00.0"
EDU_WITH_AUDIO = "0000:04:00.0"
AUDIO_OF_EDU = "0000:04:00.1"
EDU_ALONE = "0000:05:00.0"
EDU_FAR = "0000:41:00.0"        # only with --numa: near the second node
NIC_OF_BUS = "0000:07:01.0"     # e1000e, in one group with OTHER_NIC_OF_BUS
OTHER_NIC_OF_BUS = "0000:07:02.0"


# ---- files of the kernel ----
def read(path):
    with open(path, encoding="utf-8", errors="replace") as f:
        return f.read().strip()


def write(path, text):
    """One write(); OSError as the kernel says it."""
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, f"{text}\n".encode())
    finally:
        os.close(fd)


def attribute(address, name):
    """The text of an attribute of a function, or None."""
    try:
        return read(f"{PCI}/{address}/{name}")
    except OSError:
        return None


def link(address, name):
    path = f"{PCI}/{address}/{name}"
    return os.path.basename(os.readlink(path)) if os.path.islink(path) else None


def driver_of(address):
    return link(address, "driver")


def group_of(address):
    return link(address, "iommu_group")


def members_of_group(address):
    return sorted(os.listdir(f"{PCI}/{address}/iommu_group/devices"))


def resets_of(address):
    return (attribute(address, "reset_method") or "").split()


def kernel_log():
    return subprocess.run(["dmesg"], capture_output=True, text=True, check=True).stdout.splitlines()


# ---- drivers ----
def modprobe(module, *parameters):
    subprocess.run(["modprobe", module, *parameters], check=True)


def unbind(address):
    if driver_of(address):
        write(f"{PCI}/{address}/driver/unbind", address)


def bind(address, driver):
    """To @driver whatever it is bound to now; None: to the one that the kernel chooses."""
    write(f"{PCI}/{address}/driver_override", driver or "")
    unbind(address)
    write("/sys/bus/pci/drivers_probe", address)
    check(driver in (None, driver_of(address)),
          f"{address} is bound to {driver_of(address)}, not to {driver}")


def set_vfs(card, count):
    """VFs that no driver takes by itself; 0: none, and the next ones are taken."""
    write(f"{PCI}/{card}/sriov_drivers_autoprobe", int(count == 0))
    write(f"{PCI}/{card}/sriov_numvfs", count)


def nvidia_card(*cards, **parameters):
    """Makes (address, device id)s cards of the double of NVIDIA's driver, and binds them to it."""
    modprobe("fakenv", "pf=" + ",".join(c[0] for c in cards),
             "device=" + ",".join(f"{c[1]:#x}" for c in cards),
             *(f"{name}={value}" for name, value in parameters.items()))


def no_nvidia_card():
    subprocess.run(["modprobe", "-r", "fakenv"], check=True)


# ---- guests without atolld ----
def vfio(*addresses):
    return [word for address in addresses for word in ("-device", f"vfio-pci,host={address}")]


def run_tiny(arguments, seconds=60):
    """Runs the tiny guest to its end. (what it printed, what QEMU said, whether it finished)"""
    log = "/tmp/tiny.log"
    done = subprocess.run(
        ["timeout", str(seconds), *QEMU, "-kernel", TINY_ELF, "-serial", f"file:{log}",
         "-device", "isa-debug-exit,iobase=0xf4,iosize=4", *arguments],
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    text = read(log) if os.path.exists(log) else ""
    if os.path.exists(log):
        os.unlink(log)
    return text, done.stderr + done.stdout, done.returncode == TINY_DONE


def line_of(text, what):
    """The line of the tiny guest about the first function that has @what in it."""
    for line in text.splitlines():
        if what in line:
            return line
    raise Failed(f"the guest saw no {what}: {text}")


class Holder:
    """with Holder(EDU): ...    a QEMU, not of atolld, that keeps devices open"""

    def __init__(self, *addresses):
        self.arguments = vfio(*addresses)
        self.monitor = "/tmp/holder.qmp"
        self.process = None

    def __enter__(self):
        self.process = subprocess.Popen(
            [*QEMU, "-S", "-qmp", f"unix:{self.monitor},server=on,wait=off", *self.arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            wait_until("the holder to have its devices", self.has_devices, 30)
        except Failed:
            self.process.kill()
            raise Failed(f"the holder ended: {self.process.communicate()[1]}") from None
        return self

    def has_devices(self):
        check(self.process.poll() is None, "the holder ended")
        fds = f"/proc/{self.process.pid}/fd"
        targets = [os.readlink(f"{fds}/{fd}") for fd in os.listdir(fds)]
        return any("vfio-device" in t for t in targets)

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()
        if os.path.exists(self.monitor):
            os.unlink(self.monitor)


# ---- the machine around ----
def outside(command, seconds=20):
    """A command for the monitor of the test host's own QEMU."""
    name = str(time.monotonic_ns())
    with open(f"{OUT}/new-ask", "w", encoding="utf-8") as f:
        f.write(command)
    os.rename(f"{OUT}/new-ask", f"{OUT}/ask-{name}")
    answer = f"{OUT}/answer-{name}"
    wait_until(f"the answer to {command}", lambda: os.path.exists(answer), seconds)
    text = read(answer)
    os.unlink(answer)
    return text.partition("\n")[2]  # the first line is the command as it was typed


def pull(device):
    """A device is pulled out of its slot, as far as the kernel lets go of it."""
    outside(f"device_del {device}")


def boots():
    """How often the host was cut off."""
    return int(read(f"{OUT}/boots")) if os.path.exists(f"{OUT}/boots") else 0


def cut_off():
    """The host loses its power, and what it has not written to a disk, and is switched on again.
    Does not return: the test that called it is called again after the boot."""
    for name, text in (("boots", str(boots() + 1)), ("again", "")):
        with open(f"{OUT}/{name}", "w", encoding="utf-8") as f:
            f.write(text)
    write("/proc/sysrq-trigger", "b")  # at once, and nothing is written to a disk before
    time.sleep(60)
    raise Failed("the host is still there")


def lasting_disk(where):
    """Mounts the disk that outlives the host's power."""
    if boots() == 0:
        subprocess.run(["mkfs.ext4", "-q", "/dev/vdb"], check=True)
    os.makedirs(where, exist_ok=True)
    subprocess.run(["mount", "/dev/vdb", where], check=True)


def plug(device, address, port):
    """An edu is put into a port of the test host, and the kernel finds it."""
    outside(f"device_add edu,bus={port},id={device}")
    wait_until(f"{address} to appear", lambda: os.path.exists(f"{PCI}/{address}"), 30)


# ---- atolld ----
class Daemon(Site):
    """The real atolld of the build directory, with its state on the test host's own disk.
    Of Site: start(fault="point:kill"), kill() as kill -9, wait_dead(), atoll(), json(), apply()."""

    def __init__(self):
        os.environ["ATOLL_KEEP"] = "1"  # its files go with the test host
        super().__init__(where="/var/tmp")

    def move_to(self, root):
        """Where its files are, also those of an earlier boot."""
        os.rmdir(self.root)
        os.makedirs(root, mode=0o755, exist_ok=True)
        self.place(root)

    def import_tiny(self, name="tiny"):
        """The tiny guest as an image. Its file must be where atolld may read it."""
        path = os.path.join(self.root, "tiny.raw")
        shutil.copyfile(TINY_DISK, path)
        self.atoll("image", "import", path, "--name", name)

    def workstation(self, vdc, ws):
        return self.workstations(vdc)[ws]

    def wait_state(self, vdc, ws, state, seconds=60):
        def reached():
            now = self.workstation(vdc, ws)["state"]
            check(now == state, f"it is {now}")
            return True
        wait_until(f"{vdc}/{ws} to be {state}", reached, seconds)

    def wait_console(self, vdc, ws, text, seconds=60, times=1):
        """Waits until @text stands so often in the console's log; gives all of the log."""
        def seen():
            log = self.console(vdc, ws)
            check(log.count(text) >= times, f"so far: {log[-1500:]}")
            return log
        return wait_until(f"{text!r} of {vdc}/{ws}", seen, seconds)

    def refused(self, *arguments):
        """What atoll says of a command that must fail."""
        done = self.atoll(*arguments, check_rc=False)
        check(done.returncode != 0, f"atoll {' '.join(arguments)} worked: {done.stdout}")
        return done.stderr

    def explain(self):
        """The end of the logs as comments of TAP."""
        logs = [self.log] + glob.glob(f"{self.state}/m/*/qemu.log")
        for path in filter(os.path.exists, logs):
            for line in read(path).replace("\0", "").splitlines()[-30:]:  # a cut leaves zeros
                print(f"# {os.path.basename(path)}: {line}")
