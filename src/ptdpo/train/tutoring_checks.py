"""Which answers of tutoring are refused together, and why: see ``check_combinations``."""

from typing import get_args

from ptdpo.algo.gates import READ_GATES, EvidenceGate
from ptdpo.data.contexts import context_named, response_contexts
from ptdpo.train.setting_fields import SettingFields
from ptdpo.tutor.contrast import Contrast

# Uses that redistribute advantages over tokens, and add no term to the loss.
CREDITS = ("reweight", "shift")
# Loss types that multiply each token's clipped ratio by its own advantage.
REWEIGHTED_LOSSES = ("grpo", "bnpo", "dr_grpo", "dapo")
# Selections of rollouts another of whose group is right.
_WITH_SIBLING = ("with_sibling", "failed_with_sibling")


def check_tutoring(args: SettingFields) -> None:
    """Refuse answers that make no sense together, in a run that tutors.

    Raises:
        ValueError: naming one of them, its value and what to set.
    """
    _check_use(args)
    _check_gate(args)
    _check_sign(args)
    context = context_named(args.tutoring_context)
    if context.needs_group and args.tutoring_select not in _WITH_SIBLING:
        raise ValueError(
            f"tutoring_select={args.tutoring_select}: with tutoring_context={context.name} only rollouts that have a "
            f"right sibling can be tutored; set tutoring_select={' or '.join(_WITH_SIBLING)}"
        )
    alike = args.tutoring_teacher == "current" or (args.tutoring_teacher == "frozen" and args.rl_weight == 0)
    if context.shows_nothing and alike and args.tutoring_images == "question":
        raise ValueError(
            f"tutoring_context={context.name}: a {args.tutoring_teacher} teacher that reads the same question has "
            "nothing to teach; show it more (hint, answer, solution, sibling), or set tutoring_teacher to the "
            "path of another model, or tutoring_images to teacher or both"
        )
    if args.tutoring_clip is not None and args.tutoring_support != "full":
        raise ValueError(
            f"tutoring_clip={args.tutoring_clip}: ids are clipped over the whole vocabulary; set tutoring_support=full"
        )
    if args.tutoring_support == "full" and args.head == "dense":
        raise ValueError("head=dense: the full vocabulary has one implementation; leave head=fused")


def _check_gate(args: SettingFields) -> None:
    """Refuse parts of gates without their gate."""
    gate = args.gate
    if gate.kind != "none" and args.tutoring_use in CREDITS:
        raise ValueError(
            f"tutoring_gate={gate.kind}: weighs a term of the loss, and tutoring_use={args.tutoring_use} has none; "
            "leave it out"
        )
    if gate.kind == "none" and (gate.sharpness != 1.0 or gate.normalised):
        raise ValueError("tutoring_gate_sharpness and tutoring_gate_normalised shape a gate: set tutoring_gate too")
    if gate.threshold is not None and not gate.kind.endswith("entropy"):
        raise ValueError(
            f"tutoring_gate_threshold={gate.threshold}: is an entropy; set tutoring_gate to teacher_entropy or "
            f"student_entropy, not {gate.kind}"
        )
    if gate.threshold is None and gate.above != 0:
        raise ValueError(f"tutoring_gate_above={gate.above}: above what? Set tutoring_gate_threshold")
    if gate.normalised and (gate.kind not in READ_GATES or gate.above < 0):
        raise ValueError(
            f"tutoring_gate_normalised=True with tutoring_gate={gate.kind} and tutoring_gate_above={gate.above}: the "
            "mean of a step must be known before it is scored, and above 0; choose teacher_entropy or position"
        )
    floor = args.entropy_floor
    if floor is not None and floor.reopen < floor.close:
        raise ValueError(
            f"tutoring_entropy_reopen={floor.reopen}: must be at least tutoring_entropy_floor={floor.close}"
        )


def _check_sign(args: SettingFields) -> None:
    """Refuse to push away from the teacher without end."""
    negative = {"tutoring_weight": args.tutoring_weight, "tutoring_gate_above": args.tutoring_gate_above}
    used = [f"{name}={value}" for name, value in negative.items() if value < 0]
    if not used or args.tutoring_use in CREDITS:
        return
    if args.tutoring_rollouts == "teacher":
        raise ValueError(f"{used[0]} with tutoring_rollouts=teacher: would push away from right responses")
    if args.tutoring_use == "loss" and args.tutoring_divergence != "jsd":
        raise ValueError(
            f"{used[0]}: pushes away from the teacher, and tutoring_divergence={args.tutoring_divergence} has no upper "
            "bound; choose jsd"
        )
    if args.tutoring_use == "advantage" and args.tutoring_advantage != "jsd":
        raise ValueError(
            f"{used[0]}: pushes away from the teacher, and tutoring_advantage={args.tutoring_advantage} has no bound; "
            "choose jsd"
        )


def _check_credit(args: SettingFields) -> None:
    """Refuse to redistribute advantages that are not there, or that the loss does not take token by token."""
    use = args.tutoring_use
    if args.rl_weight == 0:
        raise ValueError(f"tutoring_use={use} with rl_weight=0: there are no advantages to redistribute")
    if use == "reweight" and abs(args.tutoring_weight) > 1:
        raise ValueError(
            f"tutoring_weight={args.tutoring_weight}: with tutoring_use=reweight it is the share of an advantage that "
            "is redistributed, from -1 to 1"
        )
    if args.tutoring_rollouts == "teacher":
        raise ValueError(f"tutoring_use={use} with tutoring_rollouts=teacher: what the teacher drew has no advantage")
    if args.tutoring_ratio_clip is not None or args.tutoring_mean != "tutored":
        raise ValueError(
            f"tutoring_use={use} adds no term to the loss: leave out tutoring_ratio_clip and tutoring_mean, which "
            "weigh one"
        )
    if not args.tutoring_keep_rl:
        raise ValueError(f"tutoring_keep_rl=False with tutoring_use={use}: nothing would be left to redistribute")
    if args.loss_type not in REWEIGHTED_LOSSES:
        raise ValueError(
            f"tutoring_use={use}: loss_type={args.loss_type!r} does not take an advantage for each token, only "
            f"{', '.join(REWEIGHTED_LOSSES)}"
        )
    if args.tutoring_shift_apart and (args.loss_type != "dapo" or args.tutoring_contrast == "none"):
        raise ValueError(
            f"tutoring_shift_apart=True with loss_type={args.loss_type!r} and tutoring_contrast="
            f"{args.tutoring_contrast}: two means of tokens are parts of one (dapo), and which are moved must be known "
            "before a step is scored: set loss_type=dapo, and tutoring_contrast to failed_siblings or question"
        )


def _check_contrast(args: SettingFields) -> None:
    """Refuse what is contrasted where nothing reads it, or where it is what the teacher reads anyway."""
    contrast, context = args.tutoring_contrast, args.tutoring_context
    if args.tutoring_use != "shift" and args.tutoring_shift_apart:
        raise ValueError(f"tutoring_shift_apart=True: no advantage is moved with tutoring_use={args.tutoring_use}")
    _check_evidence(args)
    if contrast == "none":
        return
    if args.tutoring_use not in CREDITS and not args.tutoring_evidence_gate:
        raise ValueError(
            f"tutoring_contrast={contrast}: with tutoring_use={args.tutoring_use} the teacher is compared with the "
            f"policy; set tutoring_use to {' or '.join(CREDITS)}, or tutoring_evidence_gate, or leave it out"
        )
    if contrast == "failed_siblings" and not context_named(context).shows_response:
        raise ValueError(
            f"tutoring_contrast=failed_siblings: a wrong response stands in the place of a right one, and "
            f"tutoring_context={context} shows none; set tutoring_context to {' or '.join(response_contexts())}"
        )
    if contrast == "question" and context_named(context).shows_nothing and args.tutoring_images == "question":
        raise ValueError(f"tutoring_contrast=question: is all that tutoring_context={context} shows: nothing is left")


def _check_evidence(args: SettingFields) -> None:
    """Refuse weights of rollouts where there is no evidence, or no term that they weigh."""
    strength = args.tutoring_evidence_gate
    if not strength:
        if args.evidence_gate != EvidenceGate():
            raise ValueError(
                "tutoring_evidence_penalty and tutoring_evidence_most shape the weights of rollouts: set "
                "tutoring_evidence_gate too"
            )
        return
    if args.tutoring_contrast == "none":
        raise ValueError(
            f"tutoring_evidence_gate={strength}: evidence for what, against what? Set tutoring_contrast to "
            f"{', '.join(get_args(Contrast)[1:])}"
        )
    if args.tutoring_use in CREDITS:
        raise ValueError(
            f"tutoring_evidence_gate={strength}: weighs a term of the loss, and tutoring_use={args.tutoring_use} has "
            "none; leave it out"
        )
    if args.tutoring_rollouts == "teacher":
        raise ValueError(
            f"tutoring_evidence_gate={strength} with tutoring_rollouts=teacher: what the teacher drew stands on what "
            "it was shown; leave it out"
        )


def _check_use(args: SettingFields) -> None:
    """Refuse uses of the teacher that its other settings contradict."""
    if args.tutoring_use != "loss" and (args.tutoring_support == "full" or args.tutoring_clip is not None):
        raise ValueError(
            f"tutoring_use={args.tutoring_use} looks at the sampled token only: leave tutoring_support=union and "
            "tutoring_clip"
        )
    shaped = args.tutoring_standardised or args.tutoring_advantage != "log_ratio"
    if args.tutoring_use != "advantage" and (shaped or args.tutoring_advantage_clip is not None):
        raise ValueError(
            f"tutoring_use={args.tutoring_use}: tutoring_standardised, tutoring_advantage and tutoring_advantage_clip "
            "shape the advantage of sampled tokens; set tutoring_use=advantage, or leave them out"
        )
    if args.tutoring_use in CREDITS:
        _check_credit(args)
    _check_contrast(args)
    if args.tutoring_tail == "student" and args.tutoring_divergence == "reverse_kl":
        raise ValueError("tutoring_tail=student: KL(student‖teacher) is infinite then; choose jsd or forward_kl")
    if args.tutoring_rollouts == "teacher":
        if args.tutoring_select != "all_fail_groups":
            raise ValueError(
                f"tutoring_select={args.tutoring_select}: only groups that fail as a whole are drawn anew; with "
                "tutoring_rollouts=teacher set tutoring_select=all_fail_groups"
            )
        if args.beta != 0:
            raise ValueError(
                f"beta={args.beta}: the reference KL would be taken on rollouts that the policy did not draw; with "
                "tutoring_rollouts=teacher set beta=0"
            )
        if args.perceives:
            raise ValueError(
                "tutoring_rollouts=teacher: perception terms would be taken on rollouts that the policy did not "
                "draw; set their weights to 0"
            )
        if args.tutoring_ratio_clip is not None:
            raise ValueError(
                f"tutoring_ratio_clip={args.tutoring_ratio_clip}: rollouts that the policy did not draw have no "
                "importance ratio; with tutoring_rollouts=teacher leave it out"
            )
        if context_named(args.tutoring_context).shows_nothing and args.tutoring_images == "question":
            raise ValueError(
                f"tutoring_rollouts=teacher: with tutoring_context={args.tutoring_context} nothing is drawn anew"
            )
