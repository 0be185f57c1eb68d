"""The tables of known failures: each row is right, is found, and is on the page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from npu_serving import known_failures
from npu_serving.errors import DocumentError
from npu_serving.known_failures import BUILDING, SECTIONS, KnownFailure, diagnose, read_known_failures
from npu_serving.repeated_flags import RepeatedFlags

ROWS = [(table, failure) for table, _, _ in SECTIONS for failure in read_known_failures(table)]


@pytest.mark.parametrize(("table", "failure"), ROWS, ids=lambda item: getattr(item, "id", ""))
def test_each_known_failure_is_found_by_what_the_program_prints(table: Path, failure: KnownFailure) -> None:
    found = diagnose(table, f"INFO: before\n{failure.example}\nafter")
    assert found is not None
    assert found.id == failure.id, "a row before it takes its example"
    assert re.search(r"{\d}", found.cause + found.cure) is None
    assert found.cause
    assert found.cure


def test_no_two_rows_of_a_table_have_one_name() -> None:
    for table, _, _ in SECTIONS:
        names = [failure.id for failure in read_known_failures(table)]
        assert len(set(names)) == len(names)


def test_a_refusal_by_the_loader_sends_on_to_more_than_the_check_that_may_have_passed() -> None:
    words = ("symbol lookup error", "relocation error", "error while loading shared libraries", "version `")
    of_the_loader = [
        item for item in read_known_failures(known_failures.SERVING) if any(word in item.example for word in words)
    ]
    assert len(of_the_loader) > 10
    for failure in of_the_loader:
        steps = re.split(r"[;:,] ", failure.cure)
        assert [step for step in steps if not re.search(r"verify-serving|cann-info", step)], failure.id


def test_what_no_row_knows_is_not_explained_away() -> None:
    for table, _, _ in SECTIONS:
        assert diagnose(table, "something new\n") is None


@pytest.mark.parametrize(
    "word", ["x" * 300_000, "/a" * 150_000, "E0" * 150_000, "a: " * 100_000], ids=lambda it: it[:3]
)
@pytest.mark.parametrize("table", [table for table, _, _ in SECTIONS], ids=lambda table: table.parent.name)
def test_a_word_without_an_end_is_looked_through_once(table: Path, word: str) -> None:
    """It would not come back from a pattern that is tried again at each letter."""
    assert diagnose(table, word) is None


def test_a_group_that_matched_nothing_is_no_empty_place_in_the_sentence() -> None:
    output = "s: version `GLIBC_2.34' not found"
    found = diagnose(known_failures.SERVING, output)
    assert found is not None
    assert found.cause.startswith("it was built where")


def test_the_page_of_troubleshooting_says_what_the_tables_say() -> None:
    assert known_failures.page_is_current(), "./inv lint --fix writes it"
    page = known_failures.PAGE.read_text()
    rows = [re.split(r"(?<!\\)\|", line) for line in page.splitlines() if line.startswith(("| `", "| ``"))]
    assert len(rows) == len(ROWS)
    for row, (_, failure) in zip(rows, ROWS):
        _, printed, cause, cure, rest = (cell.replace("\\|", "|") for cell in row)
        assert all(line.strip() in printed for line in failure.example.splitlines()), failure.id
        assert cause.strip()
        assert cure.strip()
        assert not rest


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("{id: a, pattern: '(', example: x, cause: y, cure: z}", "pattern: must be a regular expression of Python's"),
        ("{id: a, pattern: a, example: x, cause: y, cure: z}", "example: does not match the pattern"),
        ("{id: a, pattern: a, example: a, cause: 'not {1}', cure: z}", "cause: {1} is not a group of the pattern"),
        ("{id: a, pattern: a, example: a, cause: y}", "cure: is missing"),
        ("{id: a, pattern: a, example: a, cause: y, cure: z, cures: z}", "cures: unknown key"),
    ],
)
def test_a_row_that_could_not_work_is_refused_with_its_place(tmp_path: Path, row: str, said: str) -> None:
    table = tmp_path / "known_failures.yaml"
    table.write_text(f"- {row}\n")
    with pytest.raises(DocumentError, match=r"known_failures\.yaml:1:\d+: \[0\]") as caught:
        read_known_failures(table)
    assert said in caught.value.what


def test_an_archive_that_was_left_out_leads_to_the_question_what_this_very_tree_needs() -> None:
    found = diagnose(BUILDING, "Error downloading [https://a.example/x.zip] to /build/x.zip")
    assert found is not None
    typed = RepeatedFlags({"source": "/fork"}, {"fetch-deps": ("source",), "lock-deps": ("source",)})
    cure = typed.in_step(found.cure)
    assert "./inv lock-deps --source /fork --needed" in cure
    assert cure.startswith("./inv fetch-deps --source /fork")


TSD_OPEN_FAILED = """\
[PID: 2917193] 2026-08-04-19:44:42.996.639 Invalid_Argument(EE1001): The argument is invalid.Reason: rtGetDevMsg \
execution failed, the context is a null pointer.
        Solution: 1.Check the input parameter range of the function.
        TraceBack (most recent call last):
        TsdOpen failed. devId=1, tdt error=1[FUNC:PrintfTsdError][FILE:runtime.cc][LINE:2618]
        rtSetDevice execution failed, reason=device retain error[FUNC:FuncErrorReason][FILE:error_message_manage.cc]
        open device 1 failed, runtime result = 507033.[FUNC:ReportCallError][FILE:log_inner.cpp][LINE:148]
        ctx is NULL![FUNC:GetDevErrMsg][FILE:api_impl.cc][LINE:6120]
"""
OPP = """\
E30006: 2025-11-19-11:14:58.516.606 Failed to verify the OPP
        Possible Cause: 1.The OPP is incorrect.
        tsd client wait response fail, hostpid:1944202, device response code[1]. unknown device error.
        Start aicpu executor failed, retCode=0x7020009 devId=0[FUNC:DeviceRetain][FILE:runtime.cc][LINE:3810]
        open device 0 failed, runtime result = 507033
"""
HCCP = """\
EJ0001: 2024-05-21-11:57:54.167.645 Failed to initialize the HCCP process. Reason: Maybe the last training process is \
running.
        Solution: Wait for 10s after killing the last training process and try again.
        tsd client wait response fail, device response code[1]. unknown device error.[FUNC:WaitRsp]
"""
BUSY = """\
aclrtGetCurrentContext(&used_devices[local_device]), error code is 107002
[Error]: The context is empty.
EL0005: [PID: 278] 2025-08-26-03:01:17.531.512 The resources are busy.
        Possible Cause: 1. The resources have been occupied. 2. The device is being reset. 3. Software is not ready.
"""
OUT_OF_MEMORY = """\
EL0004: [PID: 28794] 2025-08-26-03:58:55.257.127 Failed to allocate memory.
        TraceBack (most recent call last):
        malloc physical memory failed, runtime result = 207001[FUNC:ReportCallError][FILE:log_inner.cpp][LINE:161]
        synchronized memcpy failed, kind = 1, runtime result = 507899[FUNC:ReportCallError]
"""
NULL_CONTEXT = """\
GeOp1_0GEOP::::DoRunAsync Failed
Error Message is :
EE9999: Inner Error!
        ctx is NULL![FUNC:HostMalloc][FILE:api_impl.cc][LINE:761]
        rtMallocHost execute failed, reason=[null context pointer][FUNC:ReportFuncErrorReason]
"""
AICORE = """\
EZ9999: Inner Error!
EZ9999[PID: 1441470] 2026-08-12-07:14:31.388.745 (EZ9999):  The error from device(chipId:0, dieId:1), serial number is \
58, there is an exception of aivec error, core id is 5, error code = 0x4000000000000000
       The extend info: errorStr: VEC instruction error: the ub address out of bounds.
"""
BEFORE_GRAPHS = (
    "F tf_adapter/util/ge_plugin.cc:338] [GePlugin] Initialize ge failed, ret : failed\nError Message is : \n"
)
WHAT_PEOPLE_POSTED = [
    (TSD_OPEN_FAILED, "acl-device-setup"),
    (OPP, "ge-operators"),
    (HCCP, "hccp-left-over"),
    (BUSY, "ge-device-busy"),
    (OUT_OF_MEMORY, "ge-device-memory"),
    (NULL_CONTEXT, "acl-context"),
    (AICORE, "ge-aicore"),
    (BEFORE_GRAPHS + OUT_OF_MEMORY, "ge-device-memory"),
    ("rtMallocPhysical execute failed, reason=[driver error:out of memory]", "ge-device-memory"),
    ("Error code is 207001", "ge-device-memory"),
    ("set ASCEND_RT_VISIBLE_DEVICES:6 error, input data rang[0-0])", "visible-devices"),
    ("EE1001: [PID: 9] 2025-08-26-12:16:15.529.940 The argument is invalid.Reason: device 8 is not there", "ge-device"),
    ("rtGetDeviceCount execute failed, reason=[driver error:no valid device]", "acl-device-number"),
    ("aclrtSetDevice failed, error code is 107001", "acl-device-number"),
    ("[ERROR] aclrtSetDevice(deviceId) failed: 507033 (main.cpp:72)", "acl-device-setup"),
    ("[drv api] halDeviceOpen failed. device_id=1, drvRetCode=7.", "acl-device-setup"),
    ("rtKernelLaunch execute failed, rtCode=507008, desc=[soc version error]", "ge-chip"),
    ("the socversion Ascend910B1 of bin package does not match the current device socverison Ascend310P3", "ge-chip"),
    ("stream sync failed, runtime result = 507018", "ge-aicpu"),
    ("Kernel task happen error, retCode=0x26, [aicore exception].", "ge-aicore"),
    ("aclmdlExecute failed, error code is 145000", "acl-parameter"),
    ("EZ3002: [PID: 1] 2025-05-14-07:42:33.234.136 Optype [TransData] of Ops kernel [AIcoreEngine] is unsupported.",
     "ge-operator"),
    ("E10501: IR for Op conv1 with optype MyConv is not registered.", "ge-operator"),
    ("E13010: No operator plugin is registered for Op: a/b, optype: MyOp.", "ge-operator"),
    ("E10040: As the --dynamic_dims argument is included, the corresponding nodes must have -1 axes.", "ge-gears"),
    ("E13001: Failed to open file /etc/npu/fusion.cfg. Reason: [Errno 13] Permission denied.", "ge-file"),
    ("E10061: Value 9 for parameter ge.exec.static_memory_policy is invalid. Expected value: 0, 2, 3 or 4.",
     "ge-invalid-option"),
    ("[PID: 7] 2026-03-24-12:14:45.885.234 Invalid_Argument(E10001): Value x for parameter y is invalid. Reason: z",
     "ge-invalid-option"),
    ("[PID: 7] 2026-03-24-12:14:45.885.234 Config_Error(EI0001): Value 1 for environment variable [HCCL_X] is invalid.",
     "ge-other-ranks"),
    ("EI0002: Communication operator execution waiting times out.", "ge-other-ranks"),
    ("[PID: 7] 2026-03-24-12:14:45.885.234 Unknown_Thing(EF1234): something new", "ge-code"),
    ("graph parse failed. ret : 4294967295\nError Message is : \n", "geop"),
    ("x: F tf_adapter/kernels/geop_npu.cc:669] GeOp33_0GEOP::::DoRunAsync Failed", "geop"),
    ("GEInitialize failed. [FUNC:GEInitialize] [FILE:ge_api.cc][LINE :307]", "ge-initialise"),
]  # fmt: skip


@pytest.mark.parametrize(("output", "row"), WHAT_PEOPLE_POSTED, ids=[row for _, row in WHAT_PEOPLE_POSTED])
def test_what_cann_really_printed_is_recognised_by_its_cause_and_not_by_what_followed(output: str, row: str) -> None:
    found = diagnose(known_failures.CANN, f"2026-01-01 00:00:00.000000: I before]\n{output}\nafter\n")
    assert found is not None
    assert found.id == row


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (
            NULL_CONTEXT.replace("ctx is NULL!", "Call Assign fail").replace("null context pointer", "x"),
            "Call Assign fail",
        ),
        (
            "EZ3003: No supported Ops kernel and engine are found for [a/b], optype [Foo].",
            "no operator Foo for the NPU",
        ),
        (
            "E13024: Value 7 for environment variable DUMP_GE_GRAPH is invalid. Reason: x",
            "DUMP_GE_GRAPH has the value 7",
        ),
        ("E40021: Failed to compile Op [Index2]. (oppath: x", "failed for the operator Index2"),
        (
            "set ASCEND_RT_VISIBLE_DEVICES:4,7 error, input data rang[0-4)",
            "is 4,7, and the devices here are counted in 0-4)",
        ),
    ],
)
def test_the_cause_names_what_the_message_named(row: str, words: str) -> None:
    found = diagnose(known_failures.CANN, row)
    assert found is not None
    assert words in found.cause


def test_every_code_that_a_person_may_search_for_is_on_the_page() -> None:
    page = known_failures.PAGE.read_text()
    asked = (
        "EE1001",
        "EI0003",
        "EJ0001",
        "EZ3003",
        "E10001",
        "E40021",
        "507033",
        "507008",
        "107001",
        "145013",
        "207001",
    )
    assert [code for code in (*asked, "-8005", "-8020") if code not in page] == []
