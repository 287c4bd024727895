import { Command, CommanderError, Option } from 'commander'
import { asNetworkError, NetworkError } from '../../common/errors.ts'
import { VERSION } from '../../common/project.ts'
import { Cli, type CommandModule, optionsFrom } from './cli.ts'
import { EXIT, type ExitCode, exitCodeOf } from './exit.ts'
import type { Io } from './io.ts'
import { Output } from './output.ts'
import { list } from './text.ts'

/** Every command by its name. Its module is loaded when it is called, so that none waits for what another needs. */
const COMMANDS: Record<string, { summary: string; hidden?: boolean; load: () => Promise<CommandModule> }> = {
  run: { summary: 'run an agent on this machine', load: () => import('./run.ts') },
  status: { summary: 'how the agent is', load: () => import('./status.ts') },
  list: { summary: 'the files that the agent shares', load: () => import('./list.ts') },
  network: { summary: 'all peers and their files', load: () => import('./network.ts') },
  search: { summary: 'find files by part of their name', load: () => import('./search.ts') },
  locate: { summary: 'who has a file: by exact name or content id', load: () => import('./locate.ts') },
  download: { summary: 'fetch a file, verified', load: () => import('./download.ts') },
  upload: { summary: 'share a file here, or push it to another peer', load: () => import('./upload.ts') },
  send: { summary: 'offer a file to peers, also to those that are away', load: () => import('./send.ts') },
  mailbox: {
    summary: 'offers made to other peers and by them, and what became of each',
    load: () => import('./mailbox.ts'),
  },
  follow: {
    summary: 'fetch what anyone shares under a pattern, now and from now on',
    load: () => import('./follow-pattern.ts'),
  },
  unfollow: { summary: 'stop fetching for a pattern', load: () => import('./unfollow.ts') },
  following: {
    summary: 'the patterns that the agent follows, and what came of them',
    load: () => import('./following.ts'),
  },
  publish: { summary: 'share a file, and wait until so many peers have it', load: () => import('./publish.ts') },
  transfers: {
    summary: 'transfers of the agent: list them; pause, resume, cancel or limit one',
    load: () => import('./transfers.ts'),
  },
  events: { summary: 'what happens in the network, and what happened last', load: () => import('./events.ts') },
  limits: { summary: 'how fast the agent may download and upload', load: () => import('./limits.ts') },
  friends: { summary: 'the peers that the agent asks directly', load: () => import('./friends.ts') },
  'add-peer': { summary: 'make a peer a friend of the agent', load: () => import('./add-peer.ts') },
  'remove-peer': { summary: 'end a friendship', load: () => import('./remove-peer.ts') },
  discover: {
    summary: 'ask a peer for the peers it knows, and keep them; without a URL, list those that are known',
    load: () => import('./discover.ts'),
  },
  ring: { summary: 'the place of the agent in the ring of peers', load: () => import('./ring.ts') },
  simulate: {
    summary: 'how a network of many peers finds files: in this process, nothing is sent',
    load: () => import('./simulate.ts'),
  },
  refresh: { summary: 'scan the shared folder again now', load: () => import('./refresh.ts') },
  hash: { summary: 'the content id of files', load: () => import('./hash.ts') },
  completion: { summary: 'completion for your shell', load: () => import('./completion.ts') },
  complete: { summary: 'what a shell asks for completion', hidden: true, load: () => import('./complete.ts') },
}

interface GlobalOptions {
  agent?: string
  token?: string
  json?: boolean
}

/** Runs one command line (without the program's own name) to its end, and answers with the exit code. */
export async function runCli(argv: readonly string[], io: Io): Promise<ExitCode> {
  // Known before parsing, so that a wrong command line is told in the form that was asked for.
  let out = new Output(io, { json: beforeDashes(argv).includes('--json') })
  let cli: Cli | undefined
  const program = createProgram(out, io)
  program.hook('preSubcommand', async (_program, command) => {
    const options = program.opts<GlobalOptions>()
    const chosen = optionsFrom(options, io.env)
    const named = { agent: options.agent && chosen.agentUrl, token: options.token }
    out = new Output(io, { json: options.json ?? false, named })
    cli = new Cli({ io, out, wholeProgram }, chosen)
    const { define } = await loadCommand(command.name())
    define(command, cli)
  })
  try {
    // `help NAME` as `NAME --help`, which loads the command first.
    const [first, ...others] = argv
    const args = first === 'help' && others.length > 0 ? [...others, '--help'] : argv
    await program.parseAsync(args, { from: 'user' })
    return cli?.exitCode ?? EXIT.done
  } catch (thrown) {
    if (thrown instanceof CommanderError && thrown.exitCode === 0) return EXIT.done
    if (io.env.P2P_DEBUG === '1') io.stderr.write(`${thrown instanceof Error ? thrown.stack : thrown}\n`)
    const error = thrown instanceof CommanderError ? usageError(thrown, program) : asNetworkError(thrown)
    const explained = (await cli?.explain(error)) ?? error
    out.error(explained)
    if (explained.details.choices !== undefined && !out.json) {
      const { showChoices } = await import('./choices.ts')
      showChoices(explained.details.choices, out)
    }
    return exitCodeOf(explained)
  } finally {
    await cli?.close()
  }
}

/** The program with its commands by name and summary; their modules fill them in. */
function createProgram(out: Output, io: Io, commands = Object.entries(COMMANDS)): Command {
  const program: Command = new Command('peer')
    .description('A peer-to-peer network for sharing files in a lab, a classroom or a cluster.')
    .version(VERSION, '-V, --version', 'the version of this program')
    .addOption(new Option('--agent <url>', 'the agent to speak to (env P2P_AGENT; default http://127.0.0.1:8000)'))
    .addOption(new Option('--token <token>', 'the token of an agent on another machine (env P2P_TOKEN)'))
    .addOption(new Option('--json', 'one JSON document on stdout, and nothing else'))
    .helpOption('-h, --help', 'what a command does, with examples')
    .configureHelp({
      showGlobalOptions: true,
      // What a command takes, the commands below it do not.
      visibleGlobalOptions: ({ parent }) => (parent === null ? [] : [...program.options]),
      helpWidth: io.stdout.columns ?? 100,
    })
    .configureOutput({
      writeOut: (text) => io.stdout.write(text),
      // Errors come to runCli as exceptions; what is left for stderr is the help after a missing command.
      writeErr: (text) => !out.json && io.stderr.write(text),
      outputError: () => {},
    })
    .exitOverride()
    .showSuggestionAfterError()
    .addHelpText(
      'after',
      `
Examples:
  peer run --config config/peer1.json        run an agent
  peer network                               who is there, with which files
  peer download film.mkv                     into the shared folder, verified
  peer download film.mkv -o ~/Videos         to another place
  peer locate film.mkv --explain             who has it, and how that was found out

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 unreachable, 5 verification failed`,
    )
  for (const [name, { summary, hidden }] of commands)
    program
      .command(name, { hidden: hidden ?? false })
      .summary(summary)
      .description(sentence(summary))
  return program
}

async function loadCommand(name: string): Promise<CommandModule> {
  const entry = COMMANDS[name]
  if (!entry) throw new NetworkError('invalid', `no command "${name}"`)
  return entry.load()
}

/** All but the two commands of completion, which its library adds itself. */
async function wholeProgram(cli: Cli): Promise<Command> {
  const completed = Object.entries(COMMANDS).filter(([name]) => !name.startsWith('comple'))
  const program = createProgram(cli.out, cli.io, completed)
  for (const command of program.commands) (await loadCommand(command.name())).define(command, cli)
  return program
}

function sentence(summary: string): string {
  return `${summary.charAt(0).toUpperCase()}${summary.slice(1)}.`
}

function beforeDashes(argv: readonly string[]): readonly string[] {
  const dashes = argv.indexOf('--')
  return dashes === -1 ? argv : argv.slice(0, dashes)
}

/** What the library for command lines says, in this program's words. */
const SENTENCES: readonly [RegExp, string][] = [
  [/^unknown (command|option) '(.*?)'/, 'there is no $1 $2'],
  [/ \(Did you mean (one of )?(.*)\?\)$/, ' (did you mean $2?)'],
  [/^missing required argument '(.*)'$/, '<$1> is missing'],
  [/^option '(?:-\w, )?(--\S+) (<.*>)' argument missing$/, '$1 is given without its $2'],
  [
    /^option '(?:-\w, )?(--\S+) .*?' cannot be used with option '(?:-\w, )?(--\S+) .*'$/,
    '$1 and $2 exclude each other',
  ],
  [/^option '(?:-\w, )?(--\S+) .*?' argument '(.*)' is invalid\. /s, '$1 is "$2": '],
  [/^command-argument value '(.*)' is invalid for argument '(.*)'\. /s, '<$2> is "$1": '],
  [/Allowed choices are (.*)\.$/, 'it must be one of $1'],
  [
    /^too many arguments(?: for '.*')?\. Expected (\d+) arguments? but got (\d+)\.$/,
    'too many arguments: $2 are given, $1 are taken',
  ],
]

/** What is left of a rate behind a space. */
const UNIT = /^([kmg]i?)?b(it)?(\/s)?$/i

function usageError(error: CommanderError, program: Command): NetworkError {
  if (error.code === 'commander.help') return new NetworkError('invalid', 'name a command; see "peer --help"')
  const { path, rest, commands } = called(program)
  const help = `see "${['peer', ...path, '--help'].join(' ')}"`
  if (error.code === 'commander.excessArguments') {
    if (commands.length > 0)
      return new NetworkError(
        'invalid',
        `there is no command "${[...path, rest[0]].join(' ')}", but ${list(commands)}; ${help}`,
      )
    if (rest.some((word) => UNIT.test(word)))
      return new NetworkError('invalid', `a rate has no space in it, as in 5MB/s; ${help}`)
  }
  const said = error.message.replace(/^error: /, '').replaceAll('\n', ' ')
  const message = SENTENCES.reduce((text, [pattern, sentence]) => text.replace(pattern, sentence), said)
  return new NetworkError('invalid', `${message}; ${help}`)
}

/** Which command was called: the words that name it, those after them, and the names of the commands below it. */
function called(program: Command): { path: string[]; rest: string[]; commands: string[] } {
  const path: string[] = []
  let command = program
  for (const word of program.args) {
    const inner = command.commands.find((one) => one.name() === word)
    if (!inner) break
    command = inner
    path.push(word)
  }
  return { path, rest: program.args.slice(path.length), commands: command.commands.map((one) => one.name()) }
}
