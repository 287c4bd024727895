// Its old place, for those who import it from here.
export { SmallUploader, type SmallUploaderDeps, type SmallUploaderOptions } from './small-uploader.ts'
