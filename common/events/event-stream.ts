import { NetworkError } from '../errors.ts'

/** What a reader of server-sent events may hope for, ms: a service says something every 15 s. */
export const SILENCE_MS = 45_000

/**
 * A body as it comes.
 * @throws NetworkError `unavailable` where nothing comes for `ms`; what its consumer takes does not count
 */
export async function* unlessSilent(
  body: AsyncIterable<Uint8Array> & { destroy(error?: Error): unknown },
  ms: number,
  who: string,
): AsyncGenerator<Uint8Array> {
  const silent = () => body.destroy(new NetworkError('unavailable', `${who} has fallen silent`, { reason: 'timeout' }))
  let timer = setTimeout(silent, ms)
  try {
    for await (const chunk of body) {
      clearTimeout(timer)
      yield chunk
      timer = setTimeout(silent, ms)
    }
  } finally {
    clearTimeout(timer)
  }
}
