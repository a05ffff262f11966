SELECT
    deleted_records.entity,
    deleted_records.record_id,
    deleted_records.deleted_at
FROM deleted_records
