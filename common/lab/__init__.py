"""The lab: an experiment for each sentence of the lab sheet, and for more. `./run_demo.sh lab` lists them.

How an experiment is written. It is one function in common/lab/experiments/, of at most 25 lines and 78 columns, with
`@experiment` above it; the modules stand in the order of the lab sheet, and so do the functions in them.

    @experiment(
        promised={"nobody has the key": "ENOENT", "IPC_CREAT": "ok"},
        lesson="What one learns, for a person: one paragraph.",
    )
    def opening(lab: Lab) -> Observed:
        '''Its question, in one line?'''
        missing = lab.shmget(lab.key, 4096, 0)
        made = lab.shmget(lab.key, 4096, IPC_CREAT | 0o600)
        return missing, ok(made)

It returns what it observed, a value (text, number, truth) for each line of `promised` and in that order: whoever runs
it sees the two compared, and so do the tests. `needs` names what it cannot do without (common/lab/needs.py). `lab` is a
Lab (common/lab/calls.py): the calls with the arguments that C has, each shown as it happens, and `lab.child` for what
is to happen in another process, or as another user. Lines that are no call are shown with `lab.note`.

It leaves what it made as it is: the rows that the kernel shows afterwards are part of the lesson. It runs in a process
and, where one may, in an IPC namespace of its own, with which all of it goes. Elsewhere what is proved its own is
removed behind it (common/lab/own.py): so it takes its keys from `lab.key` and `lab.new_key()` (IPC_PRIVATE only in its
own process), names in /dev/shm that begin with `lab.name`, and files in `lab.scratch`.

A sentence of the lab sheet is a line in common/lab/sheet.py, with its verdict and the experiment that it rests on.

Ten mistakes are shown on the classic pair, classic_writer.py and classic_reader.py, which is what one might hand in:
`@mistake` has symptom, cause and cure in the place of the lesson, and common/lab/programs.py runs that pair and ours.
Their keys are made of `lab.scratch` too, or of files "key..." in it, and nobody else's.

An exercise is a function in common/lab/exercises/, with `@exercise(...)` above it, what is true once it is solved: it
makes a scene, runs a person's command in it (`answer.run`), looks, and returns a truth for each. `lab check` tries one.
"""
