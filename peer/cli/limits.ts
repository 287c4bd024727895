import type { Command } from 'commander'
import { NetworkError } from '../../common/errors.ts'
import { parseRate } from '../../common/rate.ts'
import type { LimitsBody, LimitsChange } from '../../common/schemas.ts'
import type { Cli } from './cli.ts'
import { parseScheduleEntry, whenText } from './schedule.ts'
import { list, localTime, rate, type Text } from './text.ts'

const NO_SCHEDULE = 'none'

export function define(command: Command, cli: Cli): void {
  command
    .addHelpText(
      'after',
      `
Examples:
  peer limits
  peer limits set --download 10MB/s --upload 40Mbit
  peer limits set --schedule "mon-fri 08:00-18:00 download=2MB/s upload=1MB/s"
  peer limits reset
  peer limits --json | jq .now`,
    )
    .action(async () => show(await (await cli.agent()).limits(), cli))
  command
    .command('set')
    .summary('set what is given, from now on, also for transfers that run')
    .description('Sets what is given, from now on, also for transfers that run; it holds over the configuration.')
    .option('--download <rate>', 'bytes a second at most: 10MB/s, 500KB, 80Mbit, or none')
    .option('--upload <rate>', 'likewise')
    .option(
      '--schedule <entry>',
      'other rates at times of the day, in place of the schedule before; give it several times, the first that fits holds; "none" takes all away',
      (text: string, before: string[] = []) => [...before, text],
    )
    .addHelpText(
      'after',
      `
Examples:
  peer limits set --download 10MB/s --upload 5MB/s
  peer limits set --upload none
  peer limits set --schedule "mon-fri 08:00-18:00 download=2MB/s upload=1MB/s" --schedule "22:00-06:00 upload=none"
  peer limits set --schedule none

Times are those of the agent's machine. 22:00-06:00 goes over midnight and belongs to the day on which it begins;
00:00-24:00 is the whole day, and so is an entry that ends when it begins, such as 08:00-08:00.`,
    )
    .action(async (options: Given) => {
      const change = changeOf(options)
      show(await (await cli.agent()).setLimits(change), cli)
    })
  command
    .command('reset')
    .summary('go back to what the configuration says')
    .description('Goes back to what the configuration says.')
    .addHelpText(
      'after',
      `
Example:
  peer limits reset`,
    )
    .action(async () => show(await (await cli.agent()).resetLimits(), cli))
}

interface Given {
  download?: string
  upload?: string
  schedule?: string[]
}

function changeOf({ download, upload, schedule }: Given): LimitsChange {
  const change: LimitsChange = {}
  if (download !== undefined) change.download = parseRate(download)
  if (upload !== undefined) change.upload = parseRate(upload)
  if (schedule !== undefined)
    change.schedule = schedule.length === 1 && schedule[0] === NO_SCHEDULE ? [] : schedule.map(parseScheduleEntry)
  if (Object.keys(change).length === 0)
    throw new NetworkError('invalid', 'give --download, --upload or --schedule; see "peer limits set --help"')
  return change
}

function show(limits: LimitsBody, cli: Cli): void {
  const { download, upload, schedule, now, set } = limits
  cli.out.document(limits)
  const always = schedule.length === 0
  const until = now.until === null ? '' : `, until ${localTime(now.until)}`
  cli.out.table(
    [{ title: 'WHEN' }, { title: 'DOWNLOAD', align: 'right' }, { title: 'UPLOAD', align: 'right' }],
    [
      ...schedule.map((entry) => [
        whenText(entry),
        rateText(entry.download === undefined ? download : entry.download),
        rateText(entry.upload === undefined ? upload : entry.upload),
      ]),
      [always ? 'always' : 'otherwise', rateText(download), rateText(upload)],
      ...(always ? [] : [[`now${until}`, rateText(now.download), rateText(now.upload)]]),
    ],
  )
  if (set.length > 0)
    cli.out.line(
      `Set while running, and over the configuration: ${list(set)}. "peer limits reset" goes back to the configuration.`,
    )
}

function rateText(bytesPerSecond: number | null): Text {
  return bytesPerSecond === null ? { style: 'dim', text: 'no limit' } : rate(bytesPerSecond)
}
