import type { EventData, NetworkEvent } from '../../common/events/event.ts'
import { shortId } from '../../common/ids.ts'
import { count, size, styled, type Text } from './text.ts'

/** `12:00:07  P1 shares lectures/a.pdf (1.2 MB)`; of another day with its date. */
export function lineOf(event: NetworkEvent, now: Date): Text[] {
  const { origin, time } = event
  return [styled('dim', `${whenText(time, now)}  `), styled('bold', origin), ...sentenceOf(event)]
}

/** An ISO time in the reader's own zone: `12:00:07`, with its date where that is not today's. */
export function whenText(iso: string, now: Date): string {
  const at = local(new Date(iso))
  const today = local(now)
  return at.slice(0, 10) === today.slice(0, 10) ? at.slice(11, 19) : `${at.slice(0, 10)} ${at.slice(11, 19)}`
}

function local(date: Date): string {
  return new Date(date.getTime() - date.getTimezoneOffset() * 60_000).toISOString()
}

/** What follows the name of the origin. */
function sentenceOf({ type, data }: NetworkEvent): Text[] {
  switch (type) {
    case 'peer.registered':
      return [': ', styled('green', `${data.peer} is here`), ` with ${count(data.files, 'file')}, at ${data.rest}`]
    case 'peer.expired':
      return [': ', styled('red', `${data.peer} is gone`), ' (lease expired)']
    case 'peer.withdrawn':
      return [': ', styled('yellow', `${data.peer} has left`)]
    case 'file.added':
      return [styled('green', ' shares '), `${data.name} (${size(data.size)})`]
    case 'file.removed':
      return [styled('yellow', ' no longer shares '), data.name]
    case 'file.renamed':
      return [styled('green', ' renamed '), `${data.from} to ${data.name}`]
    case 'transfer.started':
      return [
        styled('cyan', data.direction === 'push' ? ' is sent ' : ' fetches '),
        whatOf(data),
        sizeOf(data),
        modeOf(data),
      ]
    case 'transfer.completed':
      return [
        styled('green', data.direction === 'push' ? ' was sent ' : ' fetched '),
        `${whatOf(data)}: ${size(data.bytes)} in ${data.seconds.toFixed(1)} s`,
        modeOf(data),
      ]
    case 'transfer.failed':
      return [
        styled('red', data.direction === 'push' ? ' was not sent ' : ' could not fetch '),
        `${whatOf(data)}: ${data.error.message}`,
        modeOf(data),
      ]
    case 'network.degraded':
      return [styled('yellow', ' finds files in a worse way'), ` (${data.text})`]
    case 'network.restored':
      return [styled('green', ' finds files in a better way'), ` (${data.text})`]
  }
}

type Transfer = EventData<'transfer.started'>

function whatOf({ file, id }: Transfer): string {
  return file ?? (id === null ? 'something' : `content ${shortId(id)}…`)
}

function sizeOf(transfer: Transfer): string {
  return transfer.size === null ? '' : ` (${size(transfer.size)})`
}

function modeOf({ mode }: Transfer): string {
  return mode === 'dummy' ? ', simulated' : ''
}
