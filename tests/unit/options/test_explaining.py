"""What is found by which word, and what is said of it."""

from __future__ import annotations

import re

import pytest

from npu_serving.documents.text_format import last_text, read_text_format
from npu_serving.errors import RequestError
from npu_serving.options import catalogue, explaining
from npu_serving.options.catalogue import session_options
from npu_serving.options.explained_entry import FLAG, KEY, OPTION, PRESET, VARIABLE
from npu_serving.options.explaining import explain, explain_all
from npu_serving.options.server_flags import checked_flags, known_flags


def names(word: str) -> list[str]:
    return [each.name for each in explain(word).found]


def test_an_option_is_explained_with_values_refusals_sections_and_lines_to_paste() -> None:
    text = explain("dynamic_node_type").text()
    assert "- 1: placeholders" in text
    assert "for: online inference\n" in text
    assert "- input_shape: the three options of gears go together" in text
    assert "ends the process ('dynamic_node_type should be 0 or 1.')" in text
    assert "the guide of 6.3, 7.1.2 动态shape, 5.6" in text
    assert 'parameter_map { key: "dynamic_node_type" value { i: 1 } }' in text


def test_the_kind_says_since_when_it_is_read_and_what_another_kind_means() -> None:
    assert "from 6.3.RC2.alpha003 on; older adapters silently ignore it" in " ".join(
        explain("precision_mode_v2").text().split()
    )
    assert "kind: b (true or false, and any other kind silently reads as false)\n" in explain("use_off_line").text()
    assert "b (true or false) from 6.3.RC2.alpha002 on, s (a text) from 6.3.RC2 on" in " ".join(
        explain("jit_compile").text().split()
    )
    assert "silently reads" not in explain("jit_compile").text()  # it is refused there


@pytest.mark.parametrize(
    ("typed", "name", "family"),
    [
        ("aic_metrics", "aic_metrics", KEY),
        ("TE_PARALLEL_COMPILER", "TE_PARALLEL_COMPILER", VARIABLE),
        ("job_id", "JOB_ID", VARIABLE),
        ("--rest-api-port", "rest_api_port", FLAG),
        ("Input-Shape", "input_shape", OPTION),
        (" output ", "output", KEY),
    ],
)
def test_a_name_is_found_in_every_family_however_it_is_spelled(typed: str, name: str, family: str) -> None:
    explained = explain(typed)
    assert explained.is_exact
    assert [(each.name, each.family) for each in explained.found] == [(name, family)]


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("档位", "dynamic_dims"),
        ("混合精度", "precision_mode_v2"),
        ("溢出检测", "enable_dump_debug"),
        ("混合计算", "mix_compile_mode"),
        ("动态shape", "input_shape"),
        ("量化压缩", "compress_weight_conf"),
        ("日志级别", "ASCEND_GLOBAL_LOG_LEVEL"),
        ("寄存器", "aic_metrics"),
        ("7.4.8", "TE_PARALLEL_COMPILER"),
    ],
)
def test_the_guides_own_words_find_what_it_means_by_them(word: str, name: str) -> None:
    assert not explain(word).is_exact
    assert name in names(word)


def test_a_mistyped_name_is_answered_with_the_nearest_first() -> None:
    assert names("precison_mode")[0] == "precision_mode"
    text = explain("graph_rum_mode").text()
    assert text.startswith("Nothing is called 'graph_rum_mode'. The nearest is:\n\ngraph_run_mode (session option)\n")


def test_a_mistyped_part_of_a_name_finds_what_the_part_does() -> None:
    assert names("precison") == names("precision")
    assert "precision_mode_v2" in names("precison")


def test_the_word_presets_finds_every_preset() -> None:
    assert names("presets") == names("preset") == list(catalogue.presets())


def test_several_hits_are_listed_with_a_line_for_each() -> None:
    text = explain("溢出检测").text()
    assert text.startswith("3 are found by '溢出检测':\n  enable_dump_debug (session option): Collects the data")
    assert text.endswith("\nNext: ./inv explain NAME")


@pytest.mark.parametrize("word", ["", "  ", "--", "no-such-thing-at-all", "zzz"])
def test_what_nothing_is_found_by_is_an_error_that_leads_on(word: str) -> None:
    with pytest.raises(RequestError) as caught:
        explain(word)
    assert "./inv explain --all" in caught.value.cure
    assert explain("档位").found  # as the cure says


def test_everything_is_explained_once_with_all_that_is_known() -> None:
    found = explain_all().found
    assert len(found) == len({(each.family, each.name) for each in found}) == 107 + 22 + 64 + 29 + 9
    for each in found:
        document = each.to_json()
        assert document["name"] == each.name
        assert document["meaning"]
        assert "None" not in each.text()


def test_pasted_options_are_text_format_with_the_kind_that_is_read() -> None:
    for each in explain_all().found:
        if each.family in (OPTION, KEY):
            for entry in read_text_format(each.example):
                (value,) = entry.fields[1].fields
                name = last_text(entry.fields, "key")
                assert value.name == [kind for kind in session_options()[name].kinds.values() if kind != "none"][-1]


def test_a_pasted_flag_is_one_that_serve_takes() -> None:
    for each in explain_all().found:
        typed = re.search(r"--flag=(\S+)", each.example)
        if each.family != FLAG or typed is None:
            continue
        if not known_flags()[each.name].must_exist:
            assert list(checked_flags([typed[1]])) == [each.name]


def test_a_variable_says_whether_a_server_gets_it() -> None:
    assert "in ./inv serve: the server does not get it: it would turn each start" in explain("AOE_MODE").text()
    assert "in ./inv serve: the server gets it (the adapter and CANN's logs)" in explain("JOB_ID").text()


def test_an_option_that_counts_less_than_it_seems_says_so() -> None:
    assert "deprecated: it has no effect; leave it out" in explain("graph_memory_max_size").text()
    assert "write op_debug_config in its place" in explain("op_debug_level").text()
    assert "on a server: leave it out: it is for training" in explain("hcom_parallel").text()
    assert (
        "on a server: fp16 is written where neither it nor precision_mode is chosen"
        in explain("precision_mode_v2").text()
    )


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("modify_mixlist", "aic-SOC-ops-info.json"),  # R026
        ("modify_mixlist", "from the white list to the black one by black-list to-add"),  # R028
        ("modify_mixlist", "a grey operator does as the one before it"),  # R029
        ("modify_mixlist", "affects every network"),  # R031
        ("modify_mixlist", "keep no copies there"),  # R033
        ("profiling_options", "task_trace and aicpu are supported, training_trace is not"),  # R038
        ("output", "it has to be /var/log/npu/ (5.3)"),  # R039
        ("dump_step", "data_index in the path of a dump is the step"),  # R046
        ("input_shape", "Gears of the whole graph override those of a part of it"),  # R052
        ("input_shape", "get_next() must not have been given a name"),  # R054
        ("job", "no guide: the adapter's source only"),  # R151
        ("session_device_id", "take a session with an id of its own for each"),  # R152
        ("deterministic", "Leave it off in service; switch it on where results differ"),  # R153
        ("deterministic", "take fixed random seeds"),  # R154
        ("atomic_clean_policy", "Try 1 where a network needs more memory than there is"),  # R155
        ("static_memory_policy", "do not work with graphs that are run at the same time"),  # R156
        ("external_weight", "It is not needed unless memory is short"),  # R157
        ("input_shape", "with 0 alone for a scalar"),  # R158
        ("input_shape", "only one kind may be dynamic; list all inputs of that kind"),  # R159
        ("enable_exception_dump", "leave it out: it is for training"),  # R162
        ("op_debug_config", "in dynamic shapes they may not compile"),  # R163
        ("debug_dir", "in place of the working directory"),  # R164
        ("precision_mode", "that the NPU has in float16 only can't be run with it"),  # R165
        ("precision_mode", "by keep_tensors_dtypes() in the model"),  # R166
        ("modify_mixlist", "mixed precision has to be on"),  # R167
        ("customize_dtypes", "without effect with must_keep_origin_dtype"),  # R168
        ("customize_dtypes", "types are those of Ascend IR, and an entry by name wins"),  # R169
        ("customize_dtypes", "makes the compilation fail; the operator library lists them"),  # R170
        ("customize_dtypes", "may rename an operator, so that its entry by name finds nothing"),  # R171
        ("dump_path", "Make it before the start"),  # R173
        ("dump_data", "dump stats first, then the data of the operators that look wrong"),  # R175
        ("fusion_switch_file", "of letters, digits, _ - . and Chinese characters"),  # R177
        ("fusion_switch_file", "ALL off switches off part of them only"),  # R178
        ("iterations_per_loop", "it has to equal the value of set_iteration_per_loop()"),  # R179
        ("hcom_parallel", "For small networks such as Resnet18, false may be better"),  # R180
        ("enable_small_channel", "It helps Resnet50, Resnet101, Resnet152 and GoogleNet only"),  # R181
        ("op_precision_mode", "all_ops_impl_mode.ini lists what each operator supports"),  # R183
        ("enable_scope_fusion_passes", "names of rules that are not general"),  # R184
        ("stream_max_parallel_num", "It is for the NMT network only"),  # R185
        ("is_tailing_optimization", "It is for Bert only"),  # R186
        ("variable_placement", "tf.enable_control_flow_v2() and tf.enable_resource_variables()"),  # R188
        ("output", "It has to exist beforehand, readable and writable"),  # R189
        ("msproftx", "The program has to call those interfaces"),  # R192
        ("aoe_mode", "this option counts where both are set"),  # R195
        ("aoe_mode", "apply what the tool finds by set_split_strategy_by_idx()"),  # R197
        ("aoe_config_file", "Names and types are compared as whole words"),  # R198
        ("aoe_config_file", "2 for the feature deeper_opat, 1 for nonhomo_split"),  # R199
        ("op_compiler_cache_mode", "then go back to enable"),  # R200
        ("op_compiler_cache_mode", "Never use force where programs compile at the same time"),  # R201
        ("op_compiler_cache_mode", "the guide recommends disable or force"),  # R202
        ("op_compiler_cache_mode", "the cache is not used while that is not 0"),  # R203
        ("op_compiler_cache_mode", "where it has its section and two valid values"),  # R204
        ("local_rank_id", "get_local_rank_id() gives it"),  # R205
        ("hccl_timeout", "600 becomes 544"),  # R206
        ("stream_sync_timeout", "it has to be longer than hccl_timeout or HCCL_EXEC_TIMEOUT"),  # R207
        ("compress_weight_conf", "AMCT's record file"),  # R209
        ("op_debug_level", "0 or 3 in normal runs"),  # R211
        ("enable_data_pre_proc", "through a TensorFlow Dataset"),  # R212
        ("dynamic_inputs_shape_range", "Shapes stand in the order in which a dataset gives them"),  # R220
        ("PROFILING_MODE", "default: off"),  # R222
        ("task_trace", "training_trace has to be on as well"),  # R223
        ("fp_point", "Set it by hand in dynamic shapes"),  # R224
        ("sys_interconnection_freq", "HCCS on the Ascend 910 and 910B"),  # R225
        ("SKT_ENABLE", "in an SoC only"),  # R227
        ("OP_NO_REUSE_MEM", "separated by commas, without blanks"),  # R228
        ("DUMP_GRAPH_LEVEL", "DUMP_GE_GRAPH: it is read only where that is set"),  # R229
        ("TE_PARALLEL_COMPILER", "1 to 32, and at most 80% of the processors for each NPU"),  # R230
        ("ASCEND_MAX_OP_CACHE_SIZE", "unit: MB"),  # R231
        ("ASCEND_REMAIN_CACHE_SIZE_RATIO", "unit: percent"),  # R232
        ("JOB_ID", "letters, digits, - and _; not a number that begins with 0"),  # R233
        ("ASCEND_DEVICE_ID", "the option counts where both are set"),  # R234
        ("ASCEND_SLOG_PRINT_TO_STDOUT", "it is not kept in files then"),  # R235
        ("ASCEND_GLOBAL_EVENT_ENABLE", "It counts for what is started from the same shell"),  # R236
        ("ASCEND_GLOBAL_LOG_LEVEL", "4: nothing"),  # R237
        ("ASCEND_GLOBAL_EVENT_ENABLE", "1: yes"),  # R238
        ("ASCEND_LOG_DEVICE_FLUSH_TIMEOUT", "those that were not sent are on the device, in /var/log/npu/slog"),  # R239
        ("ASCEND_HOST_LOG_FILE_NUM", "A file has up to 20 MB"),  # R240
        ("MAX_COMPILE_CORE_NUMBER", "1 to the number of processors"),  # R241
    ],
)
def test_what_the_guide_advises_is_said_with_the_option(name: str, advice: str) -> None:
    """The numbers are those of docs/guide-coverage.md."""
    assert advice in " ".join(explain(name).text().split())


def test_a_preset_is_shown_with_what_it_sets_and_what_its_word_finds_besides() -> None:
    found = explaining.explain("dump")
    assert [each.family for each in found.found] == [PRESET]
    assert "- dump_mode all" in found.text()
    assert "presets: [dump]" in found.text()
    assert "dump_path" in {each.name for each in found.also}
    assert "Found by that word too:" in found.text()
    assert "compile-cache" in {each.name for each in explaining.explain("编译缓存").found}
