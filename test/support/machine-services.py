"""Stand-ins for com.redhat.RHSM1 and systemd on a bus of the test's own, made with the library the real one uses (python3-dbus).

One argument: a JSON object that says how they behave. Every call is told on standard output, a JSON object a line.
"""

import json
import os
import signal
import socket
import subprocess
import sys

import dbus
import dbus.mainloop.glib
import dbus.server
import dbus.service
from gi.repository import GLib

PLAN = json.loads(sys.argv[1])
RHSM = "com.redhat.RHSM1"
SYSTEMD = "org.freedesktop.systemd1"
MANAGER = SYSTEMD + ".Manager"
PROPERTIES = "org.freedesktop.DBus.Properties"


def plain(value):
    if isinstance(value, dbus.Boolean):
        return bool(value)
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, int):
        return int(value)
    return str(value)


def tell(call, *args):
    print(json.dumps({"call": call, "args": [plain(arg) for arg in args]}), flush=True)


def refuse(exception, message):
    """The service's own form of an error."""
    document = json.dumps({"exception": exception, "severity": "error", "message": message})
    raise dbus.DBusException(document, name="com.redhat.RHSM1.Error")


class Consumer:
    uuid = PLAN.get("consumer", "")


class ConsumerObject(dbus.service.Object):
    @dbus.service.method(RHSM + ".Consumer", in_signature="s", out_signature="s")
    def GetUuid(self, locale):
        tell("Consumer.GetUuid", locale)
        return Consumer.uuid


class ConfigObject(dbus.service.Object):
    @dbus.service.method(RHSM + ".Config", in_signature="ss", out_signature="v")
    def Get(self, name, locale):
        tell("Config.Get", name, locale)
        if "consumer_dir" not in PLAN:
            refuse("KeyError", "no such setting")
        return PLAN["consumer_dir"]


class UnregisterObject(dbus.service.Object):
    @dbus.service.method(RHSM + ".Unregister", in_signature="a{sv}s", out_signature="")
    def Unregister(self, options, locale):
        tell("Unregister.Unregister", options, locale)
        if PLAN.get("unregister") == "refused":
            refuse("RestlibException", "HTTP error (502 - Bad Gateway)")
        Consumer.uuid = ""


class RegisterObject(dbus.service.Object):
    """Only on the private socket."""

    def __init__(self, conn):
        super().__init__(conn=conn, object_path="/com/redhat/RHSM1/Register")

    def end(self, options, good, failed):
        how = PLAN.get("register", "done")
        if how == "hang":
            return
        if Consumer.uuid and not options.get("force"):
            failed(dbus.DBusException("This system is already registered."))
            return
        if how == "done":
            Consumer.uuid = PLAN.get("uuid", "5c1d2ff0-0000-4000-8000-000000000001")
            good(json.dumps({"uuid": Consumer.uuid}))
        elif how == "plain":
            failed(dbus.DBusException("something old\nwent wrong", name="com.redhat.RHSM1.Error"))
        else:
            try:
                refuse(*how)
            except dbus.DBusException as error:
                failed(error)

    @dbus.service.method(
        RHSM + ".Register", in_signature="sssa{sv}a{sv}s", out_signature="s", async_callbacks=("good", "failed")
    )
    def Register(self, org, username, password, options, connection, locale, good, failed):
        tell("Register.Register", org, username, password, options, connection, locale)
        if org == "" and PLAN.get("organizations"):
            try:
                refuse("OrgNotSpecifiedException", "User %s is member of more organizations" % username)
            except dbus.DBusException as error:
                failed(error)
        elif PLAN.get("password", password) != password:
            try:
                refuse("UnauthorizedException", "Invalid Credentials")
            except dbus.DBusException as error:
                failed(error)
        else:
            self.end(options, good, failed)

    @dbus.service.method(
        RHSM + ".Register", in_signature="sasa{sv}a{sv}s", out_signature="s", async_callbacks=("good", "failed")
    )
    def RegisterWithActivationKeys(self, org, keys, options, connection, locale, good, failed):
        tell("Register.RegisterWithActivationKeys", org, keys, options, connection, locale)
        self.end(options, good, failed)

    @dbus.service.method(RHSM + ".Register", in_signature="ssa{sv}s", out_signature="s")
    def GetOrgs(self, username, password, connection, locale):
        tell("Register.GetOrgs", username, connection, locale)
        return json.dumps([{"key": key, "displayName": key} for key in PLAN["organizations"]])


class RegisterServerObject(dbus.service.Object):
    server = None

    @dbus.service.method(RHSM + ".RegisterServer", in_signature="s", out_signature="s")
    def Start(self, locale):
        if self.server is None:
            # As the real one: libdbus makes an abstract socket of it where it can.
            self.server = dbus.server.Server(PLAN.get("private", "unix:tmpdir=/tmp"))
            self.server.on_connection_added.append(lambda conn: RegisterObject(conn))
        tell("RegisterServer.Start", locale, self.server.address)
        return self.server.address

    @dbus.service.method(RHSM + ".RegisterServer", in_signature="s", out_signature="b")
    def Stop(self, locale):
        tell("RegisterServer.Stop", locale)
        self.server.disconnect()
        self.server = None
        return True


class Unit(dbus.service.Object):
    active = PLAN.get("active", "inactive")
    file = PLAN.get("file", "disabled")

    @dbus.service.method(PROPERTIES, in_signature="ss", out_signature="v")
    def Get(self, interface, name):
        values = {
            "ActiveState": Unit.active,
            "UnitFileState": Unit.file,
            "LoadState": PLAN.get("load", "loaded"),
            "Result": PLAN.get("result", "success"),
            "ExecMainStatus": dbus.Int32(PLAN.get("status", 0)),
        }
        return values[name]


class Service:
    """What the unit runs, where the plan names it: started, awaited and stopped as a unit of Type=notify."""

    process = None
    notify = None

    @classmethod
    def start(cls, ready):
        path = PLAN["notify"]
        if os.path.exists(path):
            os.unlink(path)
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notify.bind(path)
        cls.notify = notify
        os.chmod(path, 0o777)
        ids = {"user": PLAN["uid"], "group": PLAN["uid"], "extra_groups": []} if "uid" in PLAN else {}
        env = {"PATH": os.environ["PATH"], "NOTIFY_SOCKET": path, "NODE_V8_COVERAGE": ""}
        cls.process = subprocess.Popen(PLAN["exec"], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **ids)

        def heard(source, condition):
            if "READY=1" not in notify.recv(4096).decode().split("\n"):
                return True
            ready()
            return False

        GLib.io_add_watch(notify.fileno(), GLib.IO_IN, heard)

    @classmethod
    def stop(cls):
        if cls.process is not None:
            cls.process.terminate()
            cls.process.wait()
            cls.process = None


class Manager(dbus.service.Object):
    is_subscribed = False
    jobs = 0

    @dbus.service.method(MANAGER, in_signature="s", out_signature="o")
    def LoadUnit(self, name):
        return "/org/freedesktop/systemd1/unit/yggd_2eservice"

    @dbus.service.method(MANAGER, in_signature="asbb", out_signature="ba(sss)")
    def EnableUnitFiles(self, files, runtime, force):
        tell("EnableUnitFiles", files, runtime, force)
        if PLAN.get("enable") == "refused":
            raise dbus.DBusException("File yggdrasil.service already exists", name=SYSTEMD + ".UnitExists")
        Unit.file = "enabled"
        return True, [("symlink", "/etc/x", "/usr/x")]

    @dbus.service.method(MANAGER, in_signature="asb", out_signature="a(sss)")
    def DisableUnitFiles(self, files, runtime):
        tell("DisableUnitFiles", files, runtime)
        Unit.file = "disabled"
        return dbus.Array([], signature="(sss)")

    @dbus.service.method(MANAGER)
    def Reload(self):
        tell("Reload")

    @dbus.service.method(MANAGER)
    def Subscribe(self):
        self.is_subscribed = True

    @dbus.service.signal(MANAGER, signature="uoss")
    def JobRemoved(self, number, job, unit, result):
        pass

    def job(self, how, name, active):
        tell(how, name)
        self.jobs += 1
        number = self.jobs
        path = dbus.ObjectPath("/org/freedesktop/systemd1/job/%d" % number)
        result = PLAN.get("job", {}).get(how, "done")

        def end():
            Unit.active = active if result == "done" else "failed"
            if self.is_subscribed:
                self.JobRemoved(number, path, name, result)

        if result == "at once":
            # Over before the caller knows its path.
            result = "done"
            end()
        elif "exec" in PLAN:
            Service.stop()
            if how == "StopUnit":
                GLib.idle_add(end)
            else:
                Service.start(end)
        elif result != "hang":
            GLib.timeout_add(20, end)
        return path

    @dbus.service.method(MANAGER, in_signature="ss", out_signature="o")
    def StartUnit(self, name, mode):
        return self.job("StartUnit", name, "active")

    @dbus.service.method(MANAGER, in_signature="ss", out_signature="o")
    def RestartUnit(self, name, mode):
        return self.job("RestartUnit", name, "active")

    @dbus.service.method(MANAGER, in_signature="ss", out_signature="o")
    def StopUnit(self, name, mode):
        return self.job("StopUnit", name, "inactive")


def main():
    dbus.mainloop.glib.DBusGMainLoop(set_as_default=True)
    bus = dbus.bus.BusConnection(PLAN["address"])
    kept = []
    if "rhsm" in PLAN["services"]:
        name = dbus.service.BusName(RHSM, bus)
        for path, kind in [
            ("Consumer", ConsumerObject),
            ("Config", ConfigObject),
            ("Unregister", UnregisterObject),
            ("RegisterServer", RegisterServerObject),
        ]:
            kept.append(kind(name, "/com/redhat/RHSM1/" + path))
    if "systemd" in PLAN["services"]:
        name = dbus.service.BusName(SYSTEMD, bus)
        kept.append(Unit(name, "/org/freedesktop/systemd1/unit/yggd_2eservice"))
        kept.append(Manager(name, "/org/freedesktop/systemd1"))
    print(json.dumps({"call": "ready", "args": []}), flush=True)
    loop = GLib.MainLoop()
    GLib.unix_signal_add(GLib.PRIORITY_HIGH, signal.SIGTERM, loop.quit)
    loop.run()
    Service.stop()


main()
