//! What an engine around another one does not change.

/// Hands the named methods of [`Engine`](crate::Engine) on to `self.inner`, unchanged. `read` brings
/// `read_chained` along, `append` brings `runs_statements`.
///
/// ```
/// use std::sync::Arc;
/// use everfold_engine::engine::{BoxFuture, OwnerError, Epoch};
/// use everfold_engine::{Engine, Partition};
///
/// /// An engine that never lets go of a partition.
/// struct Clinging {
///     inner: Arc<dyn Engine>,
/// }
///
/// impl Engine for Clinging {
///     fn release(&self, _: Partition, _: Epoch) -> BoxFuture<'_, Result<(), OwnerError>> {
///         Box::pin(async { Ok(()) })
///     }
///
///     everfold_engine::forward! {
///         identity limits coordinator claim renew confirm append read safe_head wait indexes_entities
///         read_entity find trim put revision get scan doctor durability close
///     }
/// }
/// ```
#[macro_export]
macro_rules! forward {
    ($($method:ident)*) => { $($crate::forward! { @$method })* };
    (@identity) => {
        fn identity(&self) -> &$crate::engine::Identity {
            self.inner.identity()
        }
    };
    (@limits) => {
        fn limits(&self) -> $crate::engine::Limits {
            self.inner.limits()
        }
    };
    (@claim) => {
        fn claim(&self, partition: $crate::Partition) -> $crate::engine::BoxFuture<'_, Result<$crate::engine::Claim, $crate::engine::OwnerError>> {
            self.inner.claim(partition)
        }
    };
    (@renew) => {
        fn renew(
            &self,
            partition: $crate::Partition,
            epoch: $crate::engine::Epoch,
            floor: $crate::Stamp,
        ) -> $crate::engine::BoxFuture<'_, Result<(), $crate::engine::OwnerError>> {
            self.inner.renew(partition, epoch, floor)
        }
    };
    (@release) => {
        fn release(
            &self,
            partition: $crate::Partition,
            epoch: $crate::engine::Epoch,
        ) -> $crate::engine::BoxFuture<'_, Result<(), $crate::engine::OwnerError>> {
            self.inner.release(partition, epoch)
        }
    };
    (@confirm) => {
        fn confirm(
            &self,
            partition: $crate::Partition,
            epoch: $crate::engine::Epoch,
        ) -> $crate::engine::BoxFuture<'_, Result<(), $crate::engine::OwnerError>> {
            self.inner.confirm(partition, epoch)
        }
    };
    (@read) => {
        fn read(
            &self,
            partition: $crate::Partition,
            after: $crate::Offset,
            limit: $crate::engine::ReadLimit,
        ) -> $crate::engine::BoxFuture<'_, Result<$crate::engine::Chunk, $crate::engine::ReadError>> {
            self.inner.read(partition, after, limit)
        }

        fn read_chained(
            &self,
            partition: $crate::Partition,
            after: $crate::Offset,
            limit: $crate::engine::ReadLimit,
        ) -> $crate::engine::BoxFuture<'_, Result<$crate::engine::Chunk, $crate::engine::ReadError>> {
            self.inner.read_chained(partition, after, limit)
        }
    };
    (@safe_head) => {
        fn safe_head(&self, partition: $crate::Partition) -> $crate::engine::BoxFuture<'_, Result<$crate::Offset, $crate::engine::ReadError>> {
            self.inner.safe_head(partition)
        }
    };
    (@wait) => {
        fn wait(
            &self,
            partition: $crate::Partition,
            after: $crate::Offset,
        ) -> $crate::engine::BoxFuture<'_, Result<$crate::Offset, $crate::engine::ReadError>> {
            self.inner.wait(partition, after)
        }
    };
    (@indexes_entities) => {
        fn indexes_entities(&self) -> bool {
            self.inner.indexes_entities()
        }
    };
    (@read_entity) => {
        fn read_entity<'a>(
            &'a self,
            partition: $crate::Partition,
            entity: &'a $crate::EntityKey,
            after: u64,
            limit: usize,
        ) -> $crate::engine::BoxFuture<'a, Result<Vec<::std::sync::Arc<$crate::Record>>, $crate::engine::ReadError>> {
            self.inner.read_entity(partition, entity, after, limit)
        }
    };
    (@revision) => {
        fn revision<'a>(&'a self, area: &'a $crate::engine::Area) -> $crate::engine::BoxFuture<'a, Result<$crate::engine::Revision, $crate::engine::ReadError>> {
            self.inner.revision(area)
        }
    };
    (@get) => {
        fn get<'a>(
            &'a self,
            area: &'a $crate::engine::Area,
            key: &'a [u8],
        ) -> $crate::engine::BoxFuture<'a, Result<Option<$crate::Bytes>, $crate::engine::ReadError>> {
            self.inner.get(area, key)
        }
    };
    (@scan) => {
        fn scan<'a>(
            &'a self,
            area: &'a $crate::engine::Area,
            after: Option<&'a [u8]>,
            limit: usize,
        ) -> $crate::engine::BoxFuture<'a, Result<$crate::engine::Entries, $crate::engine::ReadError>> {
            self.inner.scan(area, after, limit)
        }
    };
    (@coordinator) => {
        fn coordinator(&self) -> Option<::std::sync::Arc<dyn $crate::Coordinator>> {
            self.inner.coordinator()
        }
    };
    (@doctor) => {
        fn doctor(&self) -> Vec<$crate::engine::Finding> {
            self.inner.doctor()
        }
    };
    (@durability) => {
        fn durability(&self) -> String {
            self.inner.durability()
        }
    };
    (@close) => {
        fn close(&self) -> $crate::engine::BoxFuture<'_, ()> {
            self.inner.close()
        }
    };
    (@append) => {
        fn runs_statements(&self) -> bool {
            self.inner.runs_statements()
        }

        fn append(
            &self,
            partition: $crate::Partition,
            epoch: $crate::engine::Epoch,
            batch: $crate::engine::Batch,
        ) -> $crate::engine::BoxFuture<'_, Result<$crate::engine::Appended, $crate::engine::AppendError>> {
            self.inner.append(partition, epoch, batch)
        }
    };
    (@put) => {
        fn put(&self, put: $crate::engine::Put) -> $crate::engine::BoxFuture<'_, Result<$crate::engine::Revision, $crate::engine::PutError>> {
            self.inner.put(put)
        }
    };
    (@find) => {
        fn find<'a>(
            &'a self,
            partition: $crate::Partition,
            query: &'a $crate::engine::Query,
            after: $crate::Offset,
            limit: usize,
        ) -> $crate::engine::BoxFuture<'a, Result<$crate::engine::Chunk, $crate::engine::ReadError>> {
            self.inner.find(partition, query, after, limit)
        }
    };
    (@trim) => {
        fn trim(&self, trim: $crate::engine::Trim) -> $crate::engine::BoxFuture<'_, Result<$crate::engine::Trimmed, $crate::engine::TrimError>> {
            self.inner.trim(trim)
        }
    };
}
